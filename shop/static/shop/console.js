// The console of a sale: asks once a second what has happened, and draws it. What is away it says, and since when.

const page = document.querySelector('[data-console]');
const pollMs = Number(page.dataset.pollMs);
// Points that are kept: two minutes of them.
const POINTS_MAXIMUM = 120;
// Times as long between polls of a tab that nobody sees, or after silence.
const SLOWER = 5;

// Steps of the funnel that are neither shown in it nor a refusal.
const OTHER_STEPS = new Set(['repeated', 'cancelled']);

const charts = Object.fromEntries(
  [...page.querySelectorAll('[data-chart]')].map((place) => [place.dataset.chart, lineChart(place)]));
const stockLabels = page.querySelector('[data-chart=stock]').dataset.labels.split('|');
const points = { sale: [], service: [] };
let answeredAt = Date.now();

// --- Numbers as people read them

const language = document.documentElement.lang;
const whole = new Intl.NumberFormat(language, { maximumFractionDigits: 0 });
const fine = new Intl.NumberFormat(language, { maximumFractionDigits: 1 });
const percent = new Intl.NumberFormat(language, { style: 'percent', maximumFractionDigits: 0 });
const time = new Intl.DateTimeFormat(language, { timeStyle: 'medium' });

const number = (value) => (value == null ? '–' : (Math.abs(value) < 10 ? fine : whole).format(value));

function put(name, text) {
  const place = page.querySelector(`[data-figure=${name}]`);
  if (place.textContent !== text) place.textContent = text;
}

function element(tag, text, className = '') {
  const made = document.createElement(tag);
  made.textContent = text;
  made.className = className;
  return made;
}

// --- The parts of the page

function drawPhase({ phase }) {
  const place = page.querySelector('[data-now]');
  if (place.dataset.phase === phase) return;
  place.textContent = place.dataset[phase];
  place.dataset.phase = phase;
}

function drawAway(name, away, sinceMs) {
  const place = page.querySelector(`[data-away=${name}]`);
  place.hidden = !away;
  place.querySelector('time').textContent = sinceMs ? time.format(sinceMs) : '–';
}

function drawTiles({ level, level_reason: reason, lanes, tiers, redis, seen_by_workers: workers }) {
  const all = Object.values(lanes);
  const told = Object.entries(lanes).map(([lane, { p95_ms: ms }]) => `${lane} ${number(ms)} ms`);
  put('level', level);
  put('level_reason', reason);
  put('rate', number(all.reduce((sum, { rate }) => sum + rate, 0)));
  put('p95', told.length ? `p95: ${told.join(', ')}` : '');
  put('waiting', number(redis.value?.waiting));
  put('oldest', redis.value?.waiting ? `${fine.format(redis.value.oldest_ms / 1000)} s` : '');
  put('drift', number(workers.value?.drift));
  put('dead', number(workers.value?.dead_events));
  put('hits', tiers.loads == null ? '–' : percent.format(1 - tiers.loads));
  put('tiers', Object.entries(tiers).map(([tier, part]) => `${tier} ${percent.format(part)}`).join(', '));
}

function drawFunnel({ funnel }) {
  const most = Math.max(1, ...Object.values(funnel));
  for (const row of page.querySelectorAll('[data-step]')) {
    const count = funnel[row.dataset.step] ?? 0;
    if (!row.querySelector('strong')) row.append(element('strong', ''), document.createElement('progress'));
    row.querySelector('strong').textContent = whole.format(count);
    row.querySelector('progress').value = count / most;
    row.querySelector('progress').setAttribute('aria-label', row.firstChild.textContent.trim());
  }
}

function drawStores({ redis, record }) {
  const known = redis.value?.offers ?? {}, written = record.value?.offers ?? {};
  const cell = (mine, theirs) => (mine == null || theirs == null || mine === theirs
    ? number(mine ?? theirs) : `${number(mine)} / ${number(theirs)}`);
  const rows = Object.entries(written).map(([id, there]) => {
    const here = known[id] ?? {}, row = document.createElement('tr');
    const available = there.quantity - there.held - there.sold;
    row.append(element('th', there.title));
    for (const [mine, theirs] of [[here.quantity, there.quantity], [here.available, available],
      [here.held, there.held], [here.sold, there.sold]]) row.append(element('td', cell(mine, theirs)));
    return row;
  });
  page.querySelector('[data-stores] tbody').replaceChildren(...rows);
}

function drawList(name, entries) {
  const place = page.querySelector(`[data-list=${name}]`);
  const rows = entries.map(([label, text]) => {
    const row = element('li', label);
    row.append(element('strong', text, `state ${text.replaceAll(' ', '-')}`));
    return row;
  });
  place.replaceChildren(...(rows.length ? rows : [element('li', place.dataset.empty)]));
}

/** Words that answered a click and gave nobody a unit, so far; and who was turned away before, a second. */
function drawRefusals({ funnel, refusals }) {
  const steps = new Set([...page.querySelectorAll('[data-step]')].map(({ dataset }) => dataset.step));
  const clicks = Object.entries(funnel).filter(([step]) => !steps.has(step) && !OTHER_STEPS.has(step));
  drawList('clicks', clicks.map(([word, count]) => [word.replaceAll('_', ' '), whole.format(count)]));
  const doors = Object.entries(refusals).filter(([, rate]) => rate > 0);
  drawList('refusals', doors.map(([why, rate]) => [why.replaceAll('_', ' '), number(rate)]));
}

function drawEvents({ record }) {
  const place = page.querySelector('[data-events]');
  const rows = (record.value?.events ?? []).map(({ at_ms: at, act, what, detail, by }) => {
    const row = element('li', '');
    row.append(element('time', time.format(at)), element('strong', [act, what].filter(Boolean).join(' ')),
      element('span', [by || place.dataset.nobody, detail].filter(Boolean).join(': ')));
    return row;
  });
  place.replaceChildren(...(rows.length ? rows : [element('li', place.dataset.empty)]));
}

function drawCharts() {
  charts.stock(stockLabels, points.sale);
  const lanes = [...new Set(points.service.flatMap(([, each]) => Object.keys(each)))].sort();
  for (const [at, name] of ['rates', 'p95'].entries()) {
    charts[name](lanes, points.service.map(([ms, each]) => [ms, ...lanes.map((lane) => each[lane]?.[at])]));
  }
}

// --- Each second

function keep(name, more) {
  const last = points[name].at(-1)?.[0] ?? 0;
  points[name] = [...points[name], ...more.filter(([ms]) => ms > last)].slice(-POINTS_MAXIMUM);
}

function draw(told) {
  keep('sale', told.sale_points);
  keep('service', told.service_points);
  drawPhase(told);
  for (const name of ['redis', 'record']) drawAway(name, told[name].away, told[name].at_ms);
  drawTiles(told);
  drawFunnel(told);
  drawStores(told);
  drawRefusals(told);
  drawList('breakers', Object.entries(told.breakers));
  drawEvents(told);
  drawCharts();
}

async function poll() {
  const since = Math.min(points.sale.at(-1)?.[0] ?? 0, points.service.at(-1)?.[0] ?? 0);
  const url = `${page.dataset.figuresUrl}?since=${since}`;
  const answer = await fetch(url, { headers: { accept: 'application/json' } }).catch(() => null);
  if (answer?.status === 401) return location.reload();
  const told = answer?.ok ? await answer.json().catch(() => null) : null;
  if (told) {
    answeredAt = Date.now();
    draw(told);
  }
  drawAway('answer', !told, answeredAt);
  setTimeout(poll, told && !document.hidden ? pollMs : pollMs * SLOWER);
}

document.addEventListener('visibilitychange', () => { if (!document.hidden) drawCharts(); });
poll();
