"""The stylesheet of reports, for wide and narrow windows, light and dark."""

COLORS = """
:root {
  color-scheme: light dark;
  --page: #f4f6f8; --card: #fff; --ink: #1d2530; --soft: #5c6875; --line: #d9dfe6; --blue: #1f5fa8; --track: #e9edf2;
  --notice: #fff6dd; --notice-line: #e6c766; --right: #19733a; --wrong: #b3261e; --true: #007f9e; --predicted: #c94f00;
  --micro: #c94f00; --macro: #6b4fa8; --unseen: #b9c1ca;
}
@media (prefers-color-scheme: dark) {
  :root {
    --page: #14181d; --card: #1c2229; --ink: #e4e8ed; --soft: #9aa6b3; --line: #39434e; --blue: #6ea8ec;
    --track: #2b343e; --notice: #3a3115; --notice-line: #8a7430; --right: #6fce8f; --wrong: #ff8a80; --true: #45c8e6;
    --predicted: #ff9a52; --micro: #ff9a52; --macro: #b49cf0; --unseen: #4a545f;
  }
}
"""
CHART = """
.share { display: inline-block; width: 160px; height: 10px; background: var(--track); border-radius: 5px; }
.share span { display: block; height: 100%; background: var(--blue); border-radius: 5px; }
.chart { display: grid; grid-template-columns: max-content minmax(0, 1fr); column-gap: 12px; margin-bottom: 12px; }
.chart ol { margin: 0; padding: 0; list-style: none; color: var(--soft); font-size: .8rem; line-height: 20px; }
.chart svg { display: block; width: 100%; background: var(--track); }
.chart .motion { fill: var(--blue); }
.chart .micro { fill: var(--micro); opacity: .35; }
.chart .macro { fill: var(--macro); opacity: .35; }
.chart .unseen { fill: var(--unseen); }
.chart .row { stroke: var(--card); vector-effect: non-scaling-stroke; }
.along { position: relative; height: 20px; font-size: .8rem; }
.along > * { position: absolute; transform: translateX(-50%); white-space: nowrap; }
.along > :first-child:not(a) { transform: none; }
.along > :last-child:not(a) { transform: translateX(-100%); }
.ticks { color: var(--soft); }
.key { display: inline-block; margin-right: 10px; white-space: nowrap; }
.swatch { display: inline-block; width: 12px; height: 12px; border-radius: 2px; }
.swatch.micro { background: var(--micro); }
.swatch.macro { background: var(--macro); }
.swatch.unseen { background: var(--unseen); }
"""
"""The chart of motion and bars, which the page of the demo shows, too."""
STYLE = (
    COLORS
    + CHART
    + """
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink); font: 16px/1.5 system-ui, sans-serif; }
main { max-width: 1120px; margin: 0 auto; padding: 24px 20px 64px; }
h1 { margin: 0; font-size: 1.7rem; overflow-wrap: anywhere; }
h2 { margin: 0 0 12px; font-size: 1.2rem; }
h3 { margin: 0; font-size: 1rem; overflow-wrap: anywhere; }
a { color: var(--blue); }
header p { margin: 4px 0 0; color: var(--soft); overflow-wrap: anywhere; }
section { margin-top: 20px; padding: 20px; overflow-x: auto; background: var(--card); }
section { border: 1px solid var(--line); border-radius: 8px; }
p { margin: 0 0 10px; }
.note { color: var(--soft); font-size: .9rem; }
.notice { margin-top: 20px; padding: 12px 16px; background: var(--notice); border: 1px solid var(--notice-line); }
.notice { border-radius: 8px; overflow-wrap: anywhere; }
.columns { display: flex; flex-wrap: wrap; gap: 20px 24px; align-items: flex-start; }
table { border-collapse: collapse; font-size: .94rem; }
th, td { padding: 5px 10px; border-bottom: 1px solid var(--line); text-align: right; }
th { font-weight: 600; }
tbody th, thead th:first-child { padding-left: 0; text-align: left; }
tbody th { font-weight: 400; }
thead th { color: var(--soft); font-size: .86rem; }
td { font-variant-numeric: tabular-nums; }
.settings td { text-align: left; overflow-wrap: anywhere; }
.settings th { white-space: nowrap; vertical-align: top; }
.confusion td { min-width: 84px; border: 1px solid var(--card); text-align: center; }
.confusion thead th { text-align: center; }
.confusion small { display: block; opacity: .8; }
img { display: block; width: 100%; height: auto; }
.diagram { max-width: 506px; }
figure { margin: 0; }
figcaption { margin-top: 4px; color: var(--soft); font-size: .84rem; line-height: 1.35; }
article { padding: 16px 0; border-top: 1px solid var(--line); }
.panels { display: grid; grid-template-columns: repeat(4, 1fr) minmax(88px, .5fr); gap: 12px; margin: 10px 0; }
.panels img { border: 1px solid var(--line); }
.panels .wheel { align-self: center; max-width: 112px; }
.wheel img { border: 0; border-radius: 50%; }
.right { color: var(--right); font-weight: 600; }
.wrong { color: var(--wrong); font-weight: 600; }
.true-mark { color: var(--true); font-weight: 700; }
.predicted-mark { color: var(--predicted); font-weight: 700; }
.moment { grid-template-columns: repeat(4, 1fr); max-width: 720px; }
.explained { grid-template-columns: repeat(5, 1fr); max-width: 900px; }
.moments-legend { display: grid; grid-template-columns: 64px minmax(0, 1fr); gap: 12px; align-items: center; }
.moments-legend { margin-bottom: 8px; }
@media (max-width: 760px) { .panels { grid-template-columns: repeat(2, 1fr); } }
@media (max-width: 480px) {
  main { padding: 16px 10px 40px; }
  section { padding: 14px 12px; }
  .share { width: 110px; }
  .chart { column-gap: 6px; }
  .chart ol, .along { font-size: .7rem; }
}
@media print { body { background: #fff; } section, article { break-inside: avoid; } }
"""
)
