// A chart as a PNG: a headless Chromium draws the SVG, so that no library is needed for it.
import { spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { delimiter, join, resolve } from 'node:path';
import { pathToFileURL } from 'node:url';

const names = ['chromium', 'chromium-browser', 'google-chrome', 'google-chrome-stable'];

/** The first Chromium on PATH; undefined when there is none. */
export function findChromium(): string | undefined {
  const folders = (process.env['PATH'] ?? '').split(delimiter);
  return names.flatMap((name) => folders.map((folder) => join(folder, name)))
    .find((file) => existsSync(file));
}

/** Draws an SVG document of a fixed size into a file, two dots a unit. */
export function drawPng(svg: string, file: string, chromium: string): void {
  const [, width, height] = /width="(\d+)" height="(\d+)"/.exec(svg) ?? [];
  const folder = mkdtempSync(join(tmpdir(), 'onekv-chart-'));
  try {
    const source = join(folder, 'chart.svg');
    writeFileSync(source, svg);
    const { status, stderr } = spawnSync(chromium, ['--headless', '--no-sandbox', '--disable-gpu',
      '--hide-scrollbars', `--user-data-dir=${join(folder, 'profile')}`,
      '--force-device-scale-factor=2', `--window-size=${width},${height}`,
      `--screenshot=${resolve(file)}`, pathToFileURL(source).href], { encoding: 'utf8' });
    if (status !== 0 || !existsSync(file)) throw new Error(`${chromium}: ${stderr.slice(-500)}`);
  } finally {
    rmSync(folder, { recursive: true, force: true, maxRetries: 5, retryDelay: 200 });
  }
}
