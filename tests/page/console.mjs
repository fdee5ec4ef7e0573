// The console, against whatever answers at `/mqtt` beside the page: its own MQTT client in both directions.
import { check, equal, visit } from './drive.mjs';

/** The messages that the log shows, newest first. */
async function shown(page) {
  return page.locator('.log li').evaluateAll((items) => items.map((item) => ({
    topic: item.querySelector('.name').textContent,
    marks: item.querySelector('small').textContent,
    payload: item.querySelector('.head').nextElementSibling.textContent,
  })));
}

async function publish(page, topic, payload, qos, { retain = false, told } = {}) {
  await page.getByLabel('Topic', { exact: true }).fill(topic);
  await page.getByLabel('Payload').fill(payload);
  await page.getByLabel('QoS').nth(1).selectOption(String(qos));
  await page.getByLabel('Retain').setChecked(retain);
  await page.getByRole('button', { name: 'Publish' }).click();
  await page.getByText(told || (qos ? 'Acknowledged: success.' : 'Sent. QoS 0')).waitFor();
}

async function count(page, number) {
  await page.locator('.place').filter({ hasText: new RegExp(`^${number} messages`) }).waitFor();
  // The log is drawn with the next frame.
  await page.waitForFunction((n) => document.querySelectorAll('.log li').length === n, number);
}

export async function connected(page) {
  await page.getByRole('status').getByText('Connected', { exact: true }).waitFor();
}

/** Publishes and receives; `retained` stays behind, with JSON in it. */
export async function consoleScreen(page, retained, picture) {
  await visit(page, '#/console');
  await connected(page);
  await page.getByLabel('Topic filter').fill('page/#');
  await page.getByLabel('QoS').first().selectOption('2');
  await page.getByRole('button', { name: 'Subscribe', exact: true }).click();
  await page.locator('.chips li').filter({ hasText: 'page/# QoS 2' }).waitFor();

  // Lengths on both sides of one, two and three bytes of remaining length, and of a frame's.
  const lengths = [0, 5, 100, 118, 130, 16_370, 16_384, 70_000];
  let number = 0;
  for (const qos of [0, 1, 2]) {
    for (const length of lengths) {
      await publish(page, `page/${qos}`, 'x'.repeat(length), qos);
      number += 1;
      await count(page, number);
      const [last] = await shown(page);
      equal('the topic', last.topic, `page/${qos}`);
      check(`QoS ${qos}, ${length} bytes: ${last.marks}`, last.marks.startsWith(`QoS ${qos}, `));
      check('the payload', length === 0 ? last.payload === '(empty)' : last.payload.startsWith('x'.repeat(Math.min(length, 2000))));
    }
  }
  await publish(page, retained, '{"celsius": 21.5, "by": "<img src=x onerror=1>"}', 1, { retain: true });
  await count(page, number + 1);
  check('markup is text', (await shown(page))[0].payload.includes('<img src=x onerror=1>'));
  await picture?.('console-messages');

  await page.getByRole('button', { name: 'Pause' }).click();
  await publish(page, 'page/paused', 'x', 1);
  await page.getByText('1 of them not shown').waitFor();
  await page.getByRole('button', { name: 'Go on' }).click();
  await page.getByRole('button', { name: 'Clear' }).click();
  await count(page, 0);

  await page.getByRole('button', { name: 'Unsubscribe from page/#' }).click();
  await page.locator('.chips li').waitFor({ state: 'detached' });
  await publish(page, 'page/after', 'x', 1, { told: 'Acknowledged:' });
  await page.getByLabel('Topic filter').fill(retained);
  await page.getByRole('button', { name: 'Subscribe', exact: true }).click();
  await count(page, 1);
  check('it is a retained one', (await shown(page))[0].marks.includes('retained'));

  // More at once than are kept, and than the broker takes at a time.
  await page.getByLabel('Topic filter').fill('many');
  await page.getByLabel('QoS').first().selectOption('2');
  await page.getByRole('button', { name: 'Subscribe', exact: true }).click();
  await page.locator('.chips li').filter({ hasText: 'many QoS 2' }).waitFor();
  await page.getByRole('button', { name: 'Clear' }).click();
  const codes = await page.evaluate(async () => {
    const { Client } = await import(new URL('page/mqtt.js', document.baseURI));
    const url = new URL('mqtt', document.baseURI);
    url.protocol = url.protocol.replace('http', 'ws');
    return new Promise((resolve, reject) => {
      const client = new Client(url, { on: {
        open: () => Promise.all(Array.from({ length: 1200 }, (_, i) => client.publish('many', new TextEncoder().encode(String(i)), { qos: 2 })))
          .then((all) => { client.close(); resolve(all); }, reject),
        message: () => {},
        close: reject,
      } });
    });
  });
  check('every message was acknowledged', codes.length === 1200 && codes.every((code) => code === 0));
  await page.locator('.place').filter({ hasText: /^1,200 messages/ }).waitFor();
  await page.waitForFunction(() => document.querySelector('.log li pre')?.textContent === '1199');
  const all = await shown(page);
  equal('no more than so many are kept', all.length, 500);
  check('in their order, each once', all.every((m, i) => m.payload === String(1199 - i)));

  const stayed = await page.evaluate(async () => {
    const { Client } = await import(new URL('page/mqtt.js', document.baseURI));
    const url = new URL('mqtt', document.baseURI);
    url.protocol = url.protocol.replace('http', 'ws');
    return new Promise((resolve, reject) => {
      const client = new Client(url, { keepAlive: 1, on: { open: () => {}, message: () => {}, close: reject } });
      const look = setInterval(() => {
        if (client.pongs < 4) return;
        clearInterval(look);
        client.on.close = resolve;
        client.close();
      }, 50);
    });
  });
  equal('it stayed beyond its keep alive', stayed, 'disconnected');

  await page.getByLabel('Topic filter').fill('not/#/valid');
  await page.getByRole('button', { name: 'Subscribe', exact: true }).click();
  await page.locator('.outcome.bad').filter({ hasText: /Failed: / }).first().waitFor();
  await picture?.('console-refused');
}
