// Every screen on the stand-in, in a real browser: light and dark, wide and narrow, with names that try to be markup.
// `node tests/page/screens.mjs [FOLDER FOR PICTURES]`
import { mkdirSync } from 'node:fs';
import { browser, check, counted, equal, login, visit, watched, wellFormed } from './drive.mjs';
import { ODD, TOKEN, fake } from './fake.mjs';

const pictures = process.argv[2];
if (pictures) mkdirSync(pictures, { recursive: true });

const { server, state } = fake();
await new Promise((listening) => server.listen(0, '127.0.0.1', listening));
const base = `http://127.0.0.1:${server.address().port}/`;
const { context, close } = await browser();
const { page, wrong } = await watched(context, base, ['401', '404', '422', 'ERR_EMPTY_RESPONSE', '/mqtt']);

async function picture(name) {
  if (pictures) await page.screenshot({ path: `${pictures}/${name}.png`, fullPage: true });
}

const id = encodeURIComponent;
const row = (text) => page.getByRole('row').filter({ hasText: text });
const SCREENS = [
  ['overview', '#/', 'Journal and disk'], ['clients', '#/clients', 'plant-000'], ['client', '#/clients/plant-003', 'May it'],
  ['odd-client', `#/clients/${id(ODD.long)}`, 'Not delivered'], ['sessions', '#/sessions', 'plant-'],
  ['subscriptions', '#/subscriptions', 'plant/0/+/temperature'], ['retained', '#/retained', 'plant/0/temperature'],
  ['message', `#/retained/${id(ODD.markup)}`, '21.5'], ['bridges', '#/bridges', 'night-shift'],
  ['bridge', '#/bridges/hub', 'refused: NotAuthorized'], ['bridge-connected', '#/bridges/cloud', 'MQTT 5'],
  ['console', '#/console', 'Publish'], ['trace', '#/trace', 'Address'],
  ['config', '#/config', 'durability'], ['nowhere', '#/nowhere', 'no such screen'],
];

async function everyScreen() {
  for (const [width, height] of [[1280, 900], [360, 740]]) {
    for (const scheme of ['light', 'dark']) {
      await page.setViewportSize({ width, height });
      await page.emulateMedia({ colorScheme: scheme });
      for (const [name, hash, text] of SCREENS) {
        await visit(page, hash);
        await page.locator('main').filter({ hasText: text }).waitFor();
        if (name === 'overview') await page.locator('.headline.good').waitFor();
        if (name === 'nowhere') continue;
        await wellFormed(page, `${name} at ${width}, ${scheme}`);
        await picture(`${name}-${width}-${scheme}`);
      }
    }
  }
  await page.setViewportSize({ width: 1280, height: 900 });
  await page.emulateMedia({ colorScheme: 'light' });
}

async function headlines() {
  const heading = page.getByRole('heading', { level: 1 });
  for (const [mode, text] of [
    ['good', /^Acknowledgements are durable: synced in 0.3 ms \(p99 1.1 ms\), 61 GB free\.$/],
    ['bad', /^Nothing more is acknowledged/], ['memory', /not durable/], ['interval', /before the disk has the message/],
  ]) {
    state.mode = mode;
    await visit(page, '#/');
    await heading.filter({ hasText: text }).waitFor();
    await picture(`headline-${mode}`);
    if (mode === 'bad') {
      check('the cause is told', (await page.locator('.headline').innerText()).includes('No space left on device'));
      check('and seen on every screen', (await page.locator('#health').innerText()).includes('Not durable'));
    }
    check('those who listen are told', text.test(await page.locator('#said').textContent()));
  }
  state.mode = 'good';
}

async function clientsScreen() {
  await visit(page, '#/clients');
  await row('plant-000').waitFor();
  check('what cannot be seen is made plain', (await page.locator('main').innerText()).includes('bell<U+0007>tab<U+0009>newline<U+000A>end'));
  check('text that turns around is made plain', (await page.locator('main').innerText()).includes('<U+202E>'));
  await page.getByRole('button', { name: 'More' }).click();
  await row('plant-044').waitFor();
  equal('the second page', await page.locator('.pages .place').innerText(), '51 to 100');
  await page.getByRole('button', { name: 'Back' }).click();
  await row('plant-000').waitFor();
  await page.getByLabel('Client identifier').fill('plant-01');
  await page.locator('.pages .place').filter({ hasText: '1 to 10' }).waitFor();
  check('the filter is in the address', page.url().endsWith('#/clients?match=plant-01'));
  await page.getByLabel('Client identifier').fill('onerror');
  await row('onerror').first().waitFor();
  const kick = row('onerror').getByRole('button', { name: 'Disconnect' });
  await kick.click();
  await page.getByRole('dialog').getByRole('button', { name: 'Cancel' }).click();
  check('nothing is done without a yes', state.clients.some((c) => c.client_id === ODD.markup));
  await kick.click();
  await picture('confirm');
  await page.getByRole('dialog').getByRole('button', { name: 'Disconnect' }).click();
  await page.getByText('No client like that is connected.').waitFor();
  check('the client is gone', !state.clients.some((c) => c.client_id === ODD.markup));
}

async function oneClient() {
  for (const odd of [ODD.path, ODD.rtl, ODD.control, ODD.quote]) {
    await visit(page, `#/clients/${id(odd)}`);
    await page.getByText('Keep alive').waitFor();
  }
  await visit(page, '#/clients');
  await row('plant-003').getByRole('link').click();
  await page.getByText('Keep alive').waitFor();
  equal('the title', await page.title(), 'plant-003 · Nightjar');
  await page.getByLabel('Topic', { exact: true }).fill('plant/3');
  await page.getByRole('button', { name: 'Explain' }).click();
  await page.getByText('✕ refused').waitFor();
  await page.getByText('queued, then dropped').waitFor();
  await page.getByText('deny receive plant/#').waitFor();
  await visit(page, '#/clients/nobody');
  await page.getByText('No client and no persistent session').waitFor();
}

async function retainedScreen() {
  await visit(page, `#/retained/${id(ODD.markup)}`);
  await page.locator('.payload').filter({ hasText: '  "celsius": 21.5' }).waitFor();
  await page.getByRole('button', { name: 'Hex' }).click();
  await page.locator('.payload').filter({ hasText: '000000  7b 22 63' }).waitFor();
  await visit(page, `#/retained/${id(ODD.rtl)}`);
  await page.locator('.payload').filter({ hasText: '<b>bold</b>' }).waitFor();
  await visit(page, '#/retained');
  await row('a//b').getByRole('button', { name: 'Delete' }).click();
  await page.getByRole('dialog').getByRole('button', { name: 'Delete' }).click();
  await row('a//b').waitFor({ state: 'detached' });
  check('the message is gone', !state.retained.some((m) => m.topic === 'a//b'));
}

async function bridgesScreen() {
  await visit(page, '#/');
  const late = page.locator('section', { hasText: 'Bridges that are not connected' });
  await late.getByRole('link', { name: 'hub' }).waitFor();
  equal('those that should be connected and are not', await late.getByRole('link').count(), 1);
  await visit(page, '#/bridges');
  for (const [bridge, state] of [['cloud', '✓ Connected'], ['hub', '✕ Waiting'], ['night-shift', '! Paused'], ['spare', '– Idle'], ['old', '– Drained']]) {
    await row(bridge).getByText(state, { exact: true }).waitFor();
  }
  // The second look tells how much moves.
  await row('cloud').getByText(/^\d+(\.\d)?\/s$/).first().waitFor();
  await row('cloud').getByRole('link').click();
  await page.getByText('plant7/').first().waitFor();
  equal('the title', await page.title(), 'cloud · Nightjar');
  await page.getByLabel('Topic', { exact: true }).fill('sensors/7');
  await page.getByRole('button', { name: 'Map' }).click();
  await page.getByText('plant7/sensors/7').waitFor();
  await page.getByText('no rule carries it').waitFor();
  await picture('bridge-mapped');
  const ask = async (button, answer) => {
    await page.getByRole('button', { name: button, exact: true }).click();
    await page.getByRole('dialog').getByRole('button', { name: answer, exact: true }).click();
  };
  const cloud = () => state.bridges.find((b) => b.name === 'cloud');
  await ask('Pause', 'Cancel');
  equal('nothing is done without a yes', cloud().mode, 'running');
  await ask('Pause', 'Pause');
  await page.getByText('Paused.').waitFor();
  await page.getByRole('button', { name: 'Resume' }).waitFor();
  check('a bridge that is paused is not paused again', await page.getByRole('button', { name: 'Pause', exact: true }).isHidden());
  await ask('Resume', 'Resume');
  await page.getByText('Resumed.').waitFor();
  await ask('Drain', 'Drain');
  await page.getByText('Draining.').waitFor();
  equal('it drains', cloud().mode, 'draining');
  await ask('Undo changes', 'Undo changes');
  await page.getByText('Undone.').waitFor();
  await ask('Remove', 'Remove');
  await page.getByText('There is no bridge of this name.').waitFor();
  check('the bridge is gone', !cloud());
  await visit(page, '#/bridges/spare');
  await ask('Pause', 'Pause');
  await page.locator('.mistakes').getByText('is set there').waitFor();
  await picture('bridge-mistakes');
}

async function traceAndConfig() {
  await visit(page, '#/trace');
  await page.getByRole('button', { name: 'Start' }).click();
  await page.getByText('name a client, a topic or an address').waitFor();
  await page.getByLabel('Topic filter').fill('plant/#');
  await page.getByRole('button', { name: 'Start' }).click();
  await page.getByText('plant/5').first().waitFor();
  await picture('trace-running');
  await page.getByRole('button', { name: 'Stop' }).click();
  await page.getByText('Stopped.').waitFor();
  // The screen's own question about the level is answered, late, with the level of before the choice.
  let release;
  const chosen = new Promise((resolve) => { release = resolve; });
  await page.route('**/log', async (route) => {
    const answer = await route.fetch();
    if (route.request().method() === 'GET') await chosen;
    else setTimeout(release, 0);
    await route.fulfill({ response: answer });
  });
  const asked = page.waitForRequest((request) => request.url().endsWith('/log') && request.method() === 'GET');
  const answered = page.waitForResponse((response) => response.url().endsWith('/log') && response.request().method() === 'GET');
  await visit(page, '#/config');
  await asked;
  await page.getByLabel('Log level').selectOption('debug');
  await page.getByText('The log now tells debug').waitFor();
  await answered;
  equal('the level', state.level, 'debug');
  equal('the choice', await page.getByLabel('Log level').inputValue(), 'debug');
  await page.unroute('**/log');
  await page.getByRole('button', { name: 'Reload the files' }).click();
  await page.getByText('is no number').waitFor();
  await picture('config-mistakes');
  await page.getByRole('button', { name: 'Log out' }).click();
  await page.getByLabel('Token').waitFor();
  await login(page, base, TOKEN);
}

async function troubles() {
  await visit(page, '#/');
  state.gone = true;
  await page.getByText('Not up to date: the broker does not answer').waitFor();
  await page.getByRole('heading', { name: 'Not known: the broker does not answer.' }).waitFor();
  check('nothing is green that is not known', (await page.locator('.good:visible').count()) === 0 && (await page.locator('main.stale').count()) === 1);
  await picture('trouble');
  state.gone = false;
  await page.locator('#trouble').waitFor({ state: 'hidden' });
  await page.locator('.headline.good').waitFor();
  await context.clearCookies();
  await page.getByLabel('Token').waitFor();
}

try {
  await page.goto(base);
  await page.getByLabel('Token').fill('wrong');
  await page.getByRole('button', { name: 'Log in' }).click();
  await page.getByText('this is not the token').waitFor();
  await picture('login');
  await wellFormed(page, 'the login');
  await login(page, base, TOKEN);
  for (const part of [everyScreen, headlines, clientsScreen, oneClient, retainedScreen, bridgesScreen, traceAndConfig, troubles]) await part();
  check(`nothing went wrong beside:\n${wrong.join('\n')}`, wrong.length === 0);
  check('no markup of a client was read', (await page.title()) !== 'hacked');
  console.log(`ok: ${counted()} checks of the page`);
} finally {
  await close();
  server.closeAllConnections();
  server.close();
}
