// Lines over the last two minutes, by uPlot; in the colours of the page, which follow the reader's theme.

const CHART_HEIGHT = 180;
const CLOCK = new Intl.DateTimeFormat('en-GB', { timeStyle: 'medium' });
const COLOURS = ['--pico-primary', '--warn', '--good', '--pico-muted-color'];

const clock = (_, moments) => moments.map((seconds) => CLOCK.format(seconds * 1000));

/** A chart in `place`; `draw(names, rows)` gives it a line for each name, each row being [ms, value, ...]. */
function lineChart(place) {
  let chart = null, drawn = '', last = null;

  const spanGaps = 'spans' in place.dataset;
  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

  const options = (names) => ({
    width: place.clientWidth, height: CHART_HEIGHT, cursor: { y: false }, legend: { live: false },
    axes: ['x', 'y'].map((axis) => ({
      stroke: colour('--pico-muted-color'), grid: { stroke: colour('--line'), width: 1 },
      ticks: { stroke: colour('--line') }, ...(axis === 'y' ? { size: 56 } : { values: clock }),
    })),
    scales: { y: { range: (_, least, most) => [0, Math.max(1, most * 1.1)] } },
    series: [{}, ...names.map((label, at) => ({
      label, stroke: colour(COLOURS[at % COLOURS.length]), width: 2, spanGaps, points: { show: false },
    }))],
  });

  const draw = (names, rows) => {
    last = [names, rows];
    const columns = [rows.map(([ms]) => ms / 1000), ...names.map((_, at) => rows.map((row) => row[at + 1] ?? null))];
    if (chart && drawn === names.join()) return chart.setData(columns);
    chart?.destroy();
    drawn = names.join();
    chart = new uPlot(options(names), columns, place);
  };

  const again = () => { drawn = ''; if (last) draw(...last); };
  matchMedia('(prefers-color-scheme: dark)').addEventListener('change', again);
  new ResizeObserver(() => chart?.setSize({ width: place.clientWidth, height: CHART_HEIGHT })).observe(place);
  return draw;
}
