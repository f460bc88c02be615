// The server's clock, countdowns by it, times in the reader's zone, and the one voice for screen readers.

const RESYNC_MS = 60_000; // after this, a worse measurement is taken as well
const ANSWER_WITHIN_MS = 8000; // later ones count as none
const language = document.documentElement.lang;

let clock = { offset: Date.now() - performance.now(), roundTrip: Infinity, at: 0 };

/** The server's time in ms; the device's own clock may be wrong. */
export const now = () => performance.now() + clock.offset;

/** A device that slept has stopped its monotonic clock: take the next measurement, whatever it is worth. */
export const distrustClock = () => { clock.roundTrip = Infinity; };

/** Fetch JSON and learn the clock: the server read it half a round trip before its answer arrived. */
export async function ask(url, { headers, ...options } = {}) {
  const sentAt = performance.now();
  const response = await fetch(url, {
    cache: 'no-cache', signal: AbortSignal.timeout(ANSWER_WITHIN_MS), ...options,
    headers: { Accept: 'application/json', ...headers },
  });
  const at = performance.now();
  const roundTrip = at - sentAt;
  const server = Number(response.headers.get('X-Server-Now-Ms'));
  if (server && (roundTrip <= clock.roundTrip || at - clock.at > RESYNC_MS)) {
    clock = { offset: server + roundTrip / 2 - at, roundTrip, at };
  }
  return response;
}

/** How long an answer asks us to wait, in ms; 0 where it does not say. */
export const retryAfter = (response) => Number(response?.headers.get('Retry-After')) * 1000 || 0;

/** `ms` give or take a tenth: pages opened together do not ask together. */
export const about = (ms) => ms * (0.9 + 0.2 * Math.random());

/** Say a sentence to screen readers; a countdown itself is silent. */
export function say(sentence) {
  const voice = document.querySelector('[data-live]');
  if (sentence && voice.textContent !== sentence) voice.textContent = sentence;
}

function face(seconds) {
  const two = (n) => String(Math.floor(n)).padStart(2, '0');
  const days = Math.floor(seconds / 86_400);
  const time = `${seconds < 3600 ? '' : `${two((seconds / 3600) % 24)}:`}${two((seconds / 60) % 60)}:${two(seconds % 60)}`;
  return days ? `${days.toLocaleString(language, { style: 'unit', unit: 'day', unitDisplay: 'long' })} ${time}` : time;
}

/** Count down in all `elements`, then call `done`; `words` has a data-say-N for seconds worth saying. Returns a stop. */
export function countdown(elements, until, done, words) {
  let timer;
  const tick = () => {
    const left = until - now();
    if (left <= 0) return done();
    const seconds = Math.ceil(left / 1000);
    for (const element of elements) element.textContent = face(seconds);
    say(words?.getAttribute(`data-say-${seconds}`));
    timer = setTimeout(tick, left - (seconds - 1) * 1000 + 1);
  };
  tick();
  return () => clearTimeout(timer);
}

for (const time of document.querySelectorAll('time')) {
  time.textContent = new Date(time.dateTime).toLocaleString(language, { dateStyle: 'medium', timeStyle: 'short' });
}

// A page that comes back from the browser's history tells old news.
addEventListener('pageshow', (event) => { if (event.persisted) location.reload(); });
