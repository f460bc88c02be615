// The list of sales: countdowns to the openings.

import { ask, countdown } from './countdown.js';

const list = document.querySelector('[data-sales]');
const strips = document.querySelectorAll('[data-until]');

if (strips.length) await ask(list.dataset.clockUrl).catch(() => {}); // no answer: the device's clock has to do
for (const strip of strips) {
  const [label, timer] = strip.children;
  label.textContent = strip.dataset.textRunning;
  strip.dataset.running = '';
  countdown([timer], Number(strip.dataset.until), () => { strip.textContent = strip.dataset.textOver; });
}
