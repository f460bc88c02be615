// An order: the time left to pay, and a fresh page when its state changes.

import { about, ask, countdown, distrustClock, retryAfter, say } from './countdown.js';

const POLL_MS = 4000; // where the server names no interval
const SLOWEST_MS = 30_000;

const order = document.querySelector('[data-state-url]');
const strip = order.querySelector('[data-until]');
let next;
let stop;
let failures = 0;

function keepTime() {
  const [label, timer] = strip.children;
  label.textContent = strip.dataset.textRunning;
  strip.dataset.running = '';
  const over = () => {
    strip.textContent = strip.dataset.textOver;
    say(strip.dataset.textOver);
  };
  stop = countdown([timer], Number(strip.dataset.until), over, order);
}

async function poll() {
  clearTimeout(next);
  const response = await ask(order.dataset.stateUrl).catch(() => null);
  const answer = response?.ok ? await response.json().catch(() => null) : null;
  if (answer && answer.order.state !== order.dataset.state) return location.reload();
  failures = answer ? 0 : failures + 1;
  const wait = answer?.poll_after_ms || Math.min(POLL_MS * 2 ** failures, SLOWEST_MS);
  next = setTimeout(() => document.hidden || poll(), about(Math.max(wait, retryAfter(response))));
  stop?.();
  if (strip?.children.length) keepTime(); // none are left when the time is over
}

for (const form of order.querySelectorAll('form')) {
  form.addEventListener('submit', (event) => {
    if (form.dataset.sent) event.preventDefault();
    form.dataset.sent = 'yes';
    form.querySelector('button').setAttribute('aria-busy', 'true');
  });
}

if (order.dataset.state === 'awaiting_payment') {
  poll();
  document.addEventListener('visibilitychange', () => {
    if (document.hidden) return;
    distrustClock();
    poll();
  });
}
