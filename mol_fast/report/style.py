"""The stylesheet of reports."""

STYLE = """
:root { color-scheme: light; --ink: #1d2530; --soft: #5c6875; --line: #d9dfe6; --blue: #1f5fa8; }
* { box-sizing: border-box; }
body { margin: 0; background: #f4f6f8; color: var(--ink); font: 16px/1.5 system-ui, sans-serif; }
main { max-width: 1120px; margin: 0 auto; padding: 24px 20px 64px; }
h1 { margin: 0; font-size: 1.7rem; overflow-wrap: anywhere; }
h2 { margin: 0 0 12px; font-size: 1.2rem; }
h3 { margin: 0; font-size: 1rem; overflow-wrap: anywhere; }
header p { margin: 4px 0 0; color: var(--soft); }
section { margin-top: 20px; padding: 20px; overflow-x: auto; background: #fff; }
section { border: 1px solid var(--line); border-radius: 8px; }
p { margin: 0 0 10px; }
.note { color: var(--soft); font-size: .9rem; }
.notice { margin-top: 20px; padding: 12px 16px; background: #fff6dd; border: 1px solid #e6c766; border-radius: 8px; }
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
.confusion td { min-width: 84px; border: 1px solid #fff; text-align: center; }
.confusion thead th { text-align: center; }
.confusion small { display: block; opacity: .8; }
img { display: block; width: 100%; height: auto; }
figure { margin: 0; }
figcaption { margin-top: 4px; color: var(--soft); font-size: .84rem; line-height: 1.35; }
article { padding: 16px 0; border-top: 1px solid var(--line); }
.panels { display: grid; grid-template-columns: repeat(4, 1fr) minmax(88px, .5fr); gap: 12px; margin: 10px 0; }
.panels img { border: 1px solid var(--line); }
.wheel { align-self: center; max-width: 112px; }
.wheel img { border: 0; }
.right { color: #19733a; font-weight: 600; }
.wrong { color: #b3261e; font-weight: 600; }
.true-mark { color: #007f9e; font-weight: 700; }
.predicted-mark { color: #c94f00; font-weight: 700; }
.share { display: inline-block; width: 160px; height: 10px; background: #e9edf2; border-radius: 5px; }
.share span { display: block; height: 100%; background: var(--blue); border-radius: 5px; }
@media (max-width: 760px) { .panels { grid-template-columns: repeat(2, 1fr); } }
@media print { body { background: #fff; } section, article { break-inside: avoid; } }
"""
