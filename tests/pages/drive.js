// Drives the pages in a headless Chromium, as somebody at nine in the morning would.
//
// usage: node drive.js URL FOLDER CHROMIUM MODULES ACCOUNT
//
// Screenshots and the download go to FOLDER. The exit code says whether everything was as it should be.
'use strict';

const assert = require('node:assert/strict');
const fs = require('node:fs');
const path = require('node:path');

const [url, folder, chromium, modules, account] = process.argv.slice(2);
const puppeteer = require(path.join(modules, 'puppeteer-core'));
const axe = fs.readFileSync(path.join(modules, 'axe-core', 'axe.min.js'), 'utf8');

const WIDTHS = { desktop: { width: 1280, height: 900 }, phone: { width: 390, height: 844, isMobile: true } };

async function accessible(page, where) {
  await page.evaluate(axe);
  const found = await page.evaluate(() => window.axe.run(document, { resultTypes: ['violations'] }));
  const serious = found.violations.filter((one) => ['serious', 'critical'].includes(one.impact));
  const said = serious.map((one) => `${one.id}: ${one.help}: ${one.nodes.slice(0, 3).map((node) => node.html).join(' | ')}`);
  assert.deepEqual(said, [], where);
}

async function follow(page, selector) {
  await Promise.all([page.waitForNavigation(), page.click(selector)]);
}

const text = (page, selector) => page.$eval(selector, (element) => element.textContent);

async function main() {
  const browser = await puppeteer.launch({
    executablePath: chromium,
    args: ['--no-sandbox', '--disable-gpu', '--disable-dev-shm-usage'],
  });
  const page = await browser.newPage();
  const faults = [];
  page.on('console', (message) => { if (message.type() === 'error') faults.push(`console: ${message.text()}`); });
  page.on('pageerror', (error) => faults.push(`script: ${error}`));
  page.on('request', (request) => {
    const asked = request.url();
    if (!asked.startsWith('data:') && new URL(asked).origin !== url) faults.push(`elsewhere: ${asked}`);
  });

  // Each page, at the width of a desk and of a phone.
  for (const [name, at] of Object.entries({
    overview: '/', matrix: '/matrix', account: `/accounts/${account}`, changes: '/changes', scans: '/scans', findings: '/findings',
  })) {
    for (const [width, viewport] of Object.entries(WIDTHS)) {
      await page.setViewport(viewport);
      const answer = await page.goto(url + at);
      assert.equal(answer.status(), 200, at);
      const wide = await page.evaluate(() => document.documentElement.scrollWidth - window.innerWidth);
      assert.ok(wide <= 0, `${at} is ${wide} too wide on a ${width}`);
      await accessible(page, `${at} on a ${width}`);
      await page.screenshot({ path: path.join(folder, `${name}-${width}.png`), fullPage: true });
    }
  }

  // From the overview to a gap's account, and back.
  await page.setViewport(WIDTHS.desktop);
  await page.goto(`${url}/`);
  const gap = await text(page, '#oldest tbody a');
  await follow(page, '#oldest tbody a');
  assert.equal(await text(page, 'h1'), `Account ${gap}`);
  assert.ok((await page.$$('#regions td.not_covered')).length > 0, 'its gap is there');
  await Promise.all([page.waitForNavigation(), page.goBack()]);
  assert.equal(await text(page, 'h1'), 'main');

  // The query behind a table is one click away.
  assert.equal(await page.$eval('details', (element) => element.open), false);
  await page.click('details summary');
  assert.match(await text(page, 'details[open] pre'), /^SELECT /);

  // A table is sorted by any of its columns, and filtered.
  await page.goto(`${url}/accounts/${account}`);
  const column = () => page.$$eval('#regions tbody tr', (rows) => rows.map((row) => row.cells[0].textContent));
  const rising = await column();
  await page.click('#regions th:nth-child(1) button');
  await page.click('#regions th:nth-child(1) button');
  assert.deepEqual(await column(), rising.toReversed());
  await page.type('[data-filters=regions]', 'eu-west-1');
  const left = await page.$$eval('#regions tbody tr', (rows) => rows.filter((row) => !row.hidden).length);
  assert.equal(left, 1);

  // The matrix is filtered by the server, with and without JavaScript.
  for (const scripted of [true, false]) {
    await page.setJavaScriptEnabled(scripted);
    await page.goto(`${url}/matrix`);
    await page.type('[name=q]', account);
    await follow(page, 'form button');
    assert.ok(page.url().includes(`q=${account}`), 'the URL can be shared');
    assert.equal((await page.$$('.matrix tbody tr:not(.group)')).length, 1);
  }
  await page.setJavaScriptEnabled(true);

  // What it shows can be taken along.
  const session = await browser.target().createCDPSession();
  await session.send('Browser.setDownloadBehavior', { behavior: 'allow', downloadPath: folder, eventsEnabled: true });
  await page.goto(`${url}/`);
  const done = new Promise((resolve) => session.on('Browser.downloadProgress', (event) => { if (event.state === 'completed') resolve(); }));
  await page.click('a[download][href*=oldest]');
  await done;
  const csv = fs.readFileSync(path.join(folder, 'trustwatch-oldest.csv'), 'utf8');
  assert.match(csv, /^account_id,account_name,region,reason,uncovered_since,ou_path\n/);
  assert.ok(csv.includes(gap));

  // A name is a name.
  assert.equal(await page.evaluate(() => window.hacked), undefined);
  await browser.close();
  assert.deepEqual(faults, []);
}

main().catch((error) => { console.error(error); process.exit(1); });
