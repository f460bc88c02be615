// A sale page: it counts down to T0, wakes the button, and turns one click into one reservation.
//
// Each offer is a small machine: `states` holds one function a state. Its memory of a click is the ticket, kept until an
// answer ends it: sent again it gives the same reservation, so every retry and reload is harmless.

import { about, ask, countdown, distrustClock, now, retryAfter, say } from './countdown.js';

const T0_SPREAD_MS = 400; // the first poll after T0 comes from everybody: not in the same instant
const POLL_MS = 2500; // where the server names none
const SLOWEST_POLL_MS = 30_000;
const TRIES = 8; // of one click, before the shopper has to press again
const FIRST_WAIT_MS = 500; // before the second try; it doubles
const LONGEST_WAIT_MS = 8000;
const SOLD_OUT_TRUSTED_MS = 5000; // /state may be older than a buy that found the units gone
const SAFE_TO_REPEAT = ['UNKNOWN', 'BUSY', 'SLOW_DOWN'];
const RESTS = { scheduled: 'waiting', paused: 'paused', closed: 'closed' };

const page = document.querySelector('[data-sale]');
const { stateUrl, mineUrl, ticketUrl, buyUrl, loginUrl } = page.dataset;
const text = (name) => page.getAttribute(`data-text-${name}`);
const sale = { phase: page.dataset.phase, opensAt: Number(page.dataset.opensAt), closesAt: Number(page.dataset.closesAt) };

/** The phase by the server's clock: opening and end need no answer from anybody. */
function phase() {
  if (sale.phase === 'closed' || (sale.closesAt && now() >= sale.closesAt)) return 'closed';
  if (sale.phase === 'scheduled' && now() >= sale.opensAt) return 'open';
  return sale.phase;
}

/** What this tab keeps under a name, after writing `value` (null forgets). A browser may refuse to keep anything. */
function kept(name, value) {
  try {
    if (value === null) sessionStorage.removeItem(name);
    else if (value) sessionStorage.setItem(name, value);
    return sessionStorage.getItem(name);
  } catch {
    return null;
  }
}

/** POST, and always give an answer: silence and noise become UNKNOWN. */
async function send(url, body, headers) {
  const response = await ask(url, { method: 'POST', body, headers }).catch(() => null);
  const answer = await response?.json().catch(() => null);
  return { waitMs: retryAfter(response), ...(answer ?? { outcome: 'UNKNOWN', detail: text('no-answer') }) };
}

function offerMachine(card) {
  const id = card.dataset.offer;
  const find = (name) => card.querySelector(`[data-${name}]`);
  const [form, button, note, yours] = [card.querySelector('form'), find('buy'), find('note'), find('yours')];
  const units = { available: Number(find('available').textContent), held: 0 };
  let click = JSON.parse(kept(`ticket:${id}`)); // {ticket, units} while no answer has ended it
  let soldOutUntil = 0;

  function show(state, enabled = false, sentence = '', label = state) {
    card.dataset.state = state;
    button.textContent = text(label);
    button.setAttribute('aria-disabled', !enabled); // not `disabled`: the focus stays where it is
    note.textContent = sentence;
    note.hidden = !sentence;
    find('held').hidden = state !== 'sold_out' || !units.held;
    say(sentence);
  }

  const states = {
    waiting: () => show('waiting'),
    paused: () => show('paused'),
    closed: () => show('closed'),
    placed: (sentence) => show('placed', false, sentence),
    ready: (sentence = '') => show('ready', true, click ? text('pending') : sentence),

    sold_out() {
      if (card.dataset.state !== 'sold_out') say(text('sold_out'));
      show('sold_out');
    },

    async asking() {
      show('asking');
      const wanted = Number(new FormData(form).get('units')) || 1;
      for (let tries = 1, backoff = FIRST_WAIT_MS; ; tries += 1, backoff = Math.min(backoff * 2, LONGEST_WAIT_MS)) {
        const old = click;
        const answer = await buy(wanted);
        if (answer.outcome === 'TICKET_REFUSED' && old && tries === 1) continue; // too old, and it named nothing
        if (answer.outcome === 'NOT_OPEN') await poll(); // the opening may have moved
        const again = SAFE_TO_REPEAT.includes(answer.outcome) || (answer.outcome === 'NOT_OPEN' && phase() === 'open');
        if (!again || tries === TRIES) return conclude(answer);
        await states.busy(answer, Math.max(answer.waitMs, backoff) * (1 + 0.3 * Math.random()));
      }
    },

    async busy({ detail }, waitMs) {
      show('busy', false, `${detail} ${text('next-try').replace('{seconds}', Math.ceil(waitMs / 1000))}`);
      await new Promise((resolve) => { setTimeout(resolve, waitMs); });
    },

    reserved({ reservation, receipt, status_url: statusUrl }) {
      if (receipt) kept(`receipt:${reservation}`, receipt);
      show('reserved');
      location.assign(statusUrl);
    },

    refused: ({ detail }) => show('refused', true, detail, 'again'),
  };

  /** One try: a ticket if there is none, then the purchase that it names. */
  async function buy(wanted) {
    if (!click) {
      const answer = await send(ticketUrl, new URLSearchParams({ offer: id }));
      if (!answer.ticket) return answer;
      click = { ticket: answer.ticket, units: wanted };
      kept(`ticket:${id}`, JSON.stringify(click));
    }
    const body = JSON.stringify({ offer: Number(id), ...click });
    const answer = await send(buyUrl, body, { 'Content-Type': 'application/json' });
    if (![...SAFE_TO_REPEAT, 'PAUSED'].includes(answer.outcome)) click = kept(`ticket:${id}`, null);
    return answer;
  }

  function conclude(answer) {
    switch (answer.outcome) {
      case 'RESERVED':
      case 'REPEATED': return states.reserved(answer);
      case 'SIGN_IN': return location.assign(loginUrl);
      case 'SOLD_OUT':
        soldOutUntil = now() + SOLD_OUT_TRUSTED_MS;
        return states.sold_out();
      case 'LIMIT_REACHED':
        yours.hidden = false;
        return states.placed(answer.detail);
      default: return states.refused(answer);
    }
  }

  /** Take the state the sale is in, unless a click is under way or its answer still stands. */
  function settle() {
    const { state } = card.dataset;
    if (['asking', 'busy', 'reserved', 'placed'].includes(state)) return;
    const rest = RESTS[phase()] ?? (units.available > 0 && now() >= soldOutUntil ? 'ready' : 'sold_out');
    if (rest !== 'ready') states[rest]();
    else if (state === 'sold_out') states.ready(text(units.available > 1 ? 'some-back' : 'one-back'));
    else if (!['ready', 'refused'].includes(state)) states.ready();
  }

  function count({ available, held, quantity }) {
    Object.assign(units, { available, held });
    find('available').textContent = available;
    find('quantity').textContent = quantity;
    find('held-units').textContent = held;
    find('scarce').hidden = !available || available > find('scarce').dataset.scarce;
    Object.assign(card.querySelector('progress'), { max: quantity || 1, value: available });
  }

  /** What this shopper has of the offer already, and how many units are left to them. */
  function own(reservation, left) {
    yours.hidden = !reservation && left !== 0;
    if (reservation) yours.firstElementChild.href = reservation.order_url || reservation.status_url;
    if (left === 0 && !['asking', 'busy', 'reserved'].includes(card.dataset.state)) states.placed();
  }

  form.addEventListener('submit', (event) => {
    if (!card.dataset.state) return; // nothing is known yet: the plain form works
    event.preventDefault();
    if (['ready', 'refused'].includes(card.dataset.state)) states.asking();
  });
  return { id, settle, count, own };
}

const machines = [...page.querySelectorAll('[data-offer]')].map(offerMachine);
let stopCountdown;

/** Show the phase, wake or rest the buttons, and count down to what comes next. */
function settle() {
  const current = phase();
  const badge = page.querySelector('.heading .phase');
  badge.dataset.phase = current;
  badge.textContent = text(current);
  for (const machine of machines) machine.settle();

  stopCountdown?.();
  const opening = current === 'scheduled';
  const until = opening ? sale.opensAt : sale.closesAt;
  for (const strip of page.querySelectorAll('[data-countdown]')) {
    strip.hidden = current === 'closed' || !until;
    strip.dataset.running = '';
    strip.firstElementChild.textContent = text(opening ? 'opens-in' : 'ends-in');
  }
  if (current === 'closed' || !until) return;
  stopCountdown = countdown(page.querySelectorAll('[role=timer]'), until, () => {
    if (opening) say(text('on-sale-now'));
    settle();
  }, opening ? page : null);
}

let nextPoll;
let failures = 0;

async function poll() {
  clearTimeout(nextPoll);
  const response = await ask(stateUrl).catch(() => null);
  const state = response?.ok ? await response.json().catch(() => null) : null;
  failures = state ? 0 : failures + 1;
  if (state) {
    Object.assign(sale, { phase: state.phase, opensAt: state.opens_at_ms, closesAt: state.closes_at_ms });
    for (const offer of state.offers) machines.find(({ id }) => id === String(offer.id))?.count(offer);
  }
  settle();
  if (phase() === 'closed') return;

  const asked = state?.poll_after_ms || Math.min(POLL_MS * 2 ** failures, SLOWEST_POLL_MS);
  let wait = about(Math.max(asked, retryAfter(response)));
  const opensIn = sale.opensAt - now();
  if (opensIn > 0 && wait > opensIn) wait = opensIn + T0_SPREAD_MS * Math.random();
  nextPoll = setTimeout(() => document.hidden || poll(), wait);
}

async function showMine() {
  const response = await ask(mineUrl).catch(() => null);
  const mine = response?.ok ? await response.json().catch(() => null) : null;
  if (!mine) return;
  page.querySelector('[data-sign-in]').hidden = mine.signed_in || phase() === 'closed';
  document.querySelector('[data-guest]').hidden = mine.signed_in;
  for (const { id, own } of machines) {
    own(mine.reservations.find(({ offer }) => String(offer) === id), mine.units_left?.[id]);
  }
}

document.addEventListener('visibilitychange', () => {
  if (document.hidden) return;
  distrustClock();
  poll();
});

poll();
showMine();
