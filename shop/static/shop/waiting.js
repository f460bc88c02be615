// The way from "reserved" to "placed": ask how it stands, go to the order as soon as there is one.

import { about, ask, retryAfter, say } from './countdown.js';

const POLL_MS = 1000; // where the server names no interval
const SLOWEST_MS = 15_000; // also where nobody looks

let next;
const page = document.querySelector('[data-reservation]');
const { reservation, statusUrl, sayPlaced } = page.dataset;
const headers = {};
try {
  const receipt = sessionStorage.getItem(`receipt:${reservation}`);
  if (receipt) headers['X-Receipt'] = receipt;
} catch { /* storage is turned off; the server finds the reservation without a receipt as long as Redis knows it */ }

function arrive({ state, order_url: orderUrl }) {
  page.dataset.state = state;
  for (const section of page.querySelectorAll('[data-when]')) section.hidden = section.dataset.when !== state;
  if (state === 'placed') say(sayPlaced);
  if (!orderUrl) return;
  for (const link of page.querySelectorAll('[data-order]')) link.href = orderUrl;
  if (state === 'placed' || state === 'paid') location.replace(orderUrl);
}

async function poll(failures = 0) {
  const response = await ask(statusUrl, { headers }).catch(() => null);
  if (response?.status === 404) return arrive({ state: 'lost' });
  if (response?.status === 401) return location.reload(); // the server leads to the sign-in and back
  const status = response?.ok ? await response.json().catch(() => null) : null;
  if (status && status.state !== 'held') return arrive(status);

  const failed = status ? 0 : failures + 1;
  page.querySelector('[data-trouble]').hidden = failed < 2;
  page.querySelector('[data-ahead]').hidden = !status?.ahead;
  page.querySelector('[data-ahead-count]').textContent = status?.ahead ?? '';
  const wait = status?.poll_after_ms || Math.min(POLL_MS * 2 ** failed, SLOWEST_MS);
  clearTimeout(next);
  next = setTimeout(poll, about(Math.max(document.hidden ? SLOWEST_MS : wait, retryAfter(response))), failed);
}

if (page.dataset.state === 'held') {
  poll();
  document.addEventListener('visibilitychange', () => {
    if (!document.hidden && page.dataset.state === 'held') poll();
  });
}
