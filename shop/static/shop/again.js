// A page that asks to wait: counts the seconds down and tries again while somebody looks at it.
// A tab in the background comes back when it is looked at, or later, by the page itself: without this script it does so, too.

const { seconds, back } = document.querySelector('[data-seconds]').dataset;
const left = document.querySelector('[data-left]');
// The server tells visitors different numbers; a second by chance parts those who got the same one.
const dueAt = performance.now() + (Number(seconds) + Math.random() - 0.5) * 1000;

function tick() {
  const rest = Math.ceil((dueAt - performance.now()) / 1000);
  left.textContent = Math.max(0, rest);
  if (rest > 0 || document.hidden) return;
  clearInterval(timer);
  if (back) location.replace(back); else location.reload();
}

const timer = setInterval(tick, 250);
document.addEventListener('visibilitychange', tick);
