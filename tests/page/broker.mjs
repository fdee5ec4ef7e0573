// The page on a real broker: `node tests/page/broker.mjs URL TOKEN [SESSION]`. SESSION is the identifier of a persistent
// session whose client is away and has subscribed to `page/#` with QoS 1. `NIGHTJAR_PAGE_PICTURES` names a folder for
// pictures.
import { connected, consoleScreen } from './console.mjs';
import { browser, check, counted, equal, login, visit, watched, wellFormed } from './drive.mjs';

const [base, token, session] = process.argv.slice(2);
const pictures = process.env.NIGHTJAR_PAGE_PICTURES;
const RETAINED = 'page/kept/<b>x</b>';
const id = encodeURIComponent;

const { context, close } = await browser();
// What a browser says by itself: 401 before the login, 404 where something is gone.
const { page, wrong } = await watched(context, base, ['401', '404']);
// Another tab, opened when it is needed: a browser draws those behind it once a second at most.
let second = { wrong: [] };

async function picture(name) {
  if (pictures) await page.screenshot({ path: `${pictures}/broker-${name}.png`, fullPage: true });
}

async function everyScreen() {
  for (const [width, scheme] of [[1280, 'light'], [360, 'dark']]) {
    await page.setViewportSize({ width, height: 800 });
    await page.emulateMedia({ colorScheme: scheme });
    for (const [name, hash, text] of [
      ['overview', '#/', 'Acknowledgements are durable'], ['clients', '#/clients', 'console-'], ['sessions', '#/sessions', session || 'Sessions'],
      ['subscriptions', '#/subscriptions?topic=page/1', session || 'Subscriptions'], ['retained', '#/retained', RETAINED],
      ['bridges', '#/bridges', 'mqtt://127.0.0.1:1'], ['bridge', '#/bridges/hub', 'bridged/#'], ['config', '#/config', '[admin]'],
    ]) {
      await visit(page, hash);
      await page.locator('main').filter({ hasText: text }).waitFor();
      await wellFormed(page, `${name} at ${width}`);
      await picture(`${name}-${width}`);
    }
  }
  await page.setViewportSize({ width: 1280, height: 800 });
  equal('every answer could be shown', await page.locator('#trouble').isVisible(), false);
}

async function overview() {
  await visit(page, '#/');
  await page.locator('.headline.good').waitFor();
  for (const text of ['main', 'Readiness', 'Messages in']) await page.getByText(text).first().waitFor();
  check('the policy of the page', (await page.evaluate(() => fetch('./').then((a) => a.headers.get('content-security-policy')))).includes("default-src 'self'"));
}

async function retained() {
  await visit(page, '#/retained');
  await page.getByLabel('Topic filter').fill('page/kept/#');
  await page.getByRole('link', { name: RETAINED }).click();
  await page.locator('.payload').filter({ hasText: '"celsius": 21.5' }).waitFor();
  await page.getByRole('button', { name: 'Delete' }).click();
  await page.getByRole('dialog').getByRole('button', { name: 'Delete' }).click();
  await page.getByText('This topic has no retained message.').waitFor();
}

/** Its remote is not there. */
async function bridged() {
  await visit(page, '#/');
  await page.getByText('Bridges that are not connected').waitFor();
  await visit(page, '#/bridges');
  await page.getByText('Waiting').waitFor();
  await page.getByRole('link', { name: 'hub' }).click();
  await page.getByLabel('Topic', { exact: true }).fill('bridged/1');
  await page.getByRole('button', { name: 'Map' }).click();
  await page.getByText('far/bridged/1').waitFor();
  for (const [button, state] of [['Pause', '! Paused'], ['Resume', /Waiting|Connecting/], ['Drain', /Drain|Waiting|Connecting/]]) {
    await page.getByRole('button', { name: button, exact: true }).click();
    await page.getByRole('dialog').getByRole('button', { name: button, exact: true }).click();
    await page.locator('.facts').getByText(state).first().waitFor();
  }
  await page.getByText('mode', { exact: true }).waitFor();
  await picture('bridge-changed');
  await page.getByRole('button', { name: 'Remove' }).click();
  await page.getByRole('dialog').getByRole('button', { name: 'Remove' }).click();
  await page.getByText('There is no bridge of this name.').waitFor();
}

async function absent() {
  await visit(page, `#/clients/${id(session)}`);
  await page.getByText('not connected', { exact: true }).waitFor();
  await page.getByRole('cell', { name: 'page/#' }).waitFor();
  // Nine lengths with QoS 1, as many with QoS 2, and what came between.
  check('messages wait in it', /Queued\s+\d\d messages/.test(await page.locator('main').innerText()));
  await page.getByLabel('Topic', { exact: true }).fill('page/1');
  await page.getByRole('button', { name: 'Explain' }).click();
  await page.getByText('✓ allowed').waitFor();
  await picture('absent');
  await page.getByRole('button', { name: 'Delete the session' }).click();
  await page.getByRole('dialog').getByRole('button', { name: 'Delete' }).click();
  await page.getByText('No client and no persistent session has this identifier.').waitFor();
}

async function configuration() {
  await visit(page, '#/config');
  const level = page.getByLabel('Log level');
  await page.locator('.toml').filter({ hasText: '[admin]' }).waitFor();
  check('no token in it', !(await page.locator('.toml').innerText()).includes(token));
  await level.selectOption('warn');
  await page.getByText('The log now tells warn and above.').waitFor();
}

/** The client of the other tab is disconnected from here. */
async function kick() {
  await visit(page, '#/clients');
  await page.getByLabel('Client identifier').fill('console-');
  await page.getByRole('link', { name: 'console-' }).click();
  await page.getByText('Keep alive').waitFor();
  await picture('client');
  await page.getByRole('button', { name: 'Disconnect' }).click();
  await page.getByRole('dialog').getByRole('button', { name: 'Disconnect' }).click();
  await second.page.getByText('Failed: the broker disconnected').waitFor();
  await second.page.getByRole('button', { name: 'Connect', exact: true }).click();
  await connected(second.page);
}

try {
  await login(page, base, token);
  await consoleScreen(page, RETAINED, picture);
  second = await watched(context, base);
  await second.page.goto(new URL('#/console', base).href);
  await connected(second.page);
  await page.bringToFront();
  await overview();
  await everyScreen();
  await kick();
  await bridged();
  if (session) await absent();
  await retained();
  await configuration();
  const all = [...wrong, ...second.wrong];
  check(`nothing went wrong beside:\n${all.join('\n')}`, all.length === 0);
  console.log(`ok: ${counted()} checks of the page on a broker`);
} catch (error) {
  await picture('failed');
  console.error(await page.locator('body').innerText().catch(() => ''), wrong, second.wrong);
  throw error;
} finally {
  await close();
}
