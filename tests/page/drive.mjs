// What the checks of the page stand on: Debian's chromium, watched for errors and for requests to other places.
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { chromium } from 'playwright-core';

const EXECUTABLE = process.env.CHROMIUM || '/usr/bin/chromium';
const FLAGS = ['--headless', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync'];

/** A browser with a profile of its own; `close` removes it. */
export async function browser() {
  const profile = mkdtempSync(join(tmpdir(), 'nightjar-page-'));
  const context = await chromium.launchPersistentContext(profile, { executablePath: EXECUTABLE, args: FLAGS, headless: true });
  context.setDefaultTimeout(15_000);
  return {
    context,
    async close() {
      await context.close();
      rmSync(profile, { recursive: true, force: true });
    },
  };
}

/**
 * A page on which errors count. `expected` are parts of what the browser says by itself about answers that a check
 * brings about (a 401 before the login, say).
 */
export async function watched(context, base, expected = []) {
  const page = await context.newPage();
  const wrong = [];
  const origin = new URL(base).origin;
  page.on('console', (message) => {
    if (message.type() === 'error' || message.type() === 'warning') {
      const text = `${message.text()} ${message.location().url}`;
      if (!expected.some((part) => text.includes(part))) wrong.push(`console: ${text}`);
    }
  });
  page.on('pageerror', (error) => wrong.push(`error: ${error.stack || error.message}`));
  page.on('request', (request) => {
    if (new URL(request.url()).origin !== origin) wrong.push(`asks another place: ${request.url()}`);
  });
  page.on('websocket', (socket) => {
    if (new URL(socket.url()).host !== new URL(base).host) wrong.push(`connects to another place: ${socket.url()}`);
  });
  return { page, wrong };
}

let checks = 0;

export function check(what, holds) {
  if (!holds) throw new Error(`not so: ${what}`);
  checks += 1;
}

export function equal(what, got, wanted) {
  if (got !== wanted) throw new Error(`${what}: got ${JSON.stringify(got)}, wanted ${JSON.stringify(wanted)}`);
  checks += 1;
}

export function counted() {
  return checks;
}

/** Nothing is wider than the window, and every field has a label. */
export async function wellFormed(page, where) {
  const found = await page.evaluate(() => {
    const width = document.documentElement.clientWidth;
    const wide = [...document.querySelectorAll('main *')].filter((e) => {
      const box = e.getBoundingClientRect();
      if (!box.width || box.right <= width + 1) return false;
      // What scrolls inside its own box may be wide.
      for (let p = e.parentElement; p; p = p.parentElement) if (['auto', 'scroll', 'hidden'].includes(getComputedStyle(p).overflowX)) return false;
      return true;
    });
    // On a narrow screen rows are cards: no table is moved to and fro.
    const moved = width > 720 ? [] : [...document.querySelectorAll('.table')].filter((e) => e.scrollWidth > e.clientWidth);
    const unlabelled = [...document.querySelectorAll('input, select, textarea')].filter((e) => !e.labels?.length);
    const ids = [...document.querySelectorAll('[id]')].map((e) => e.id);
    return {
      scrolls: document.documentElement.scrollWidth - width,
      wide: [...wide, ...moved].slice(0, 3).map((e) => e.outerHTML.slice(0, 120)),
      unlabelled: unlabelled.length,
      headings: document.querySelectorAll('h1').length,
      twice: ids.length - new Set(ids).size,
      foreign: document.querySelectorAll('main img, main script, main b').length,
    };
  });
  check(`${where} fits its window: ${JSON.stringify(found)}`, found.scrolls <= 0 && found.wide.length === 0);
  check(`${where} has labels, one heading, no identifier twice, nothing of a client's as markup: ${JSON.stringify(found)}`,
    found.unlabelled === 0 && found.headings === 1 && found.twice === 0 && found.foreign === 0);
}

export async function login(page, base, token) {
  await page.goto(base);
  await page.getByLabel('Token').fill(token);
  await page.getByRole('button', { name: 'Log in' }).click();
  await page.getByRole('heading', { level: 1, name: /cknowledge|ready/ }).waitFor();
}

/** Goes to a screen and waits for its first answer. */
export async function visit(page, hash) {
  await page.evaluate((h) => { location.hash = h; }, hash);
  await page.locator('main > *').first().waitFor();
}
