"""Self-contained pages of tables and figures."""

import base64
import html
from collections.abc import Iterable

import matplotlib.figure

from resnet_rs.utils.figures import encode_figure

STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; margin: 0 auto; max-width: 1200px; padding: 1rem;
  color: #222; background: #fff; }
h1 { font-size: 1.4rem; } h2 { font-size: 1.15rem; margin-top: 2rem; }
.plots { display: grid; gap: 1rem;
  grid-template-columns: repeat(auto-fit, minmax(min(100%, 420px), 1fr)); }
.plots .wide { grid-column: 1 / -1; }
img { max-width: 100%; height: auto; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; white-space: nowrap; }
th, td { padding: .25rem .6rem; border-bottom: 1px solid #ddd; text-align: right; }
th:first-child, td:first-child { text-align: left; position: sticky; left: 0; background: #fff; }
th { vertical-align: bottom; }
th button { font: inherit; font-weight: 600; border: 0; background: none; padding: 0;
  cursor: pointer; color: inherit; }
th[aria-sort=ascending] button::after { content: ' \\25B2'; }
th[aria-sort=descending] button::after { content: ' \\25BC'; }
@media (max-width: 600px) { body { font-size: 13px; padding: .6rem; }
  th, td { padding: .25rem .35rem; } }
"""
SCRIPT = """
for (const button of document.querySelectorAll('th button')) {
  button.addEventListener('click', () => {
    const head = button.closest('th'), body = button.closest('table').tBodies[0];
    const column = head.cellIndex, up = head.getAttribute('aria-sort') !== 'ascending';
    for (const other of head.parentNode.cells) other.removeAttribute('aria-sort');
    head.setAttribute('aria-sort', up ? 'ascending' : 'descending');
    const value = row => row.cells[column].dataset.value ?? row.cells[column].textContent;
    const compare = (a, b) => {
      const [x, y] = [value(a), value(b)], numbers = x !== '' && y !== '' && !isNaN(x) && !isNaN(y);
      return numbers ? x - y : x.localeCompare(y);
    };
    const rows = [...body.rows].sort((a, b) => up ? compare(a, b) : compare(b, a));
    body.append(...rows);
  });
}
"""


def document(title: str, body: Iterable[str], style: str = '', script: str = '') -> str:
    """Returns a page of the HTML elements `body`; `style` and `script` add to the common ones."""
    return '\n'.join(
        [
            '<!doctype html>',
            '<html lang="en">',
            '<head>',
            '<meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f'<title>{html.escape(title)}</title>',
            f'<style>{STYLE}{style}</style>',
            '</head>',
            '<body>',
            *body,
            f'<script>{SCRIPT}{script}</script>',
            '</body>',
            '</html>',
            '',
        ]
    )


class Cell:
    """A cell of a table: the HTML it shows and the value by which it is sorted."""

    def __init__(self, text, value=None, *, is_html: bool = False):
        self.html = str(text) if is_html else html.escape(str(text))
        self.value = value if value is not None else '' if is_html else text


def table(rows: list[dict[str, Cell]]) -> str:
    """Returns a table whose headings sort its rows; all rows have the same columns."""
    head = ''.join(f'<th><button>{html.escape(name)}</button></th>' for name in rows[0])
    body = '\n'.join(
        '<tr>'
        + ''.join(
            f'<td data-value="{html.escape(str(cell.value))}">{cell.html}</td>'
            for cell in row.values()
        )
        + '</tr>'
        for row in rows
    )
    return (
        f'<div class="scroll"><table><thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n'
        '</tbody></table></div>'
    )


def figure_image(name: str, figure: matplotlib.figure.Figure) -> str:
    """Returns a figure as an image in the page; a wide one takes a whole row."""
    data = base64.b64encode(encode_figure(figure, 'svg')).decode()
    width, height = figure.get_size_inches()
    wide = ' class="wide"' if width > 2 * height else ''
    return f'<img{wide} alt="{html.escape(name)}" src="data:image/svg+xml;base64,{data}">'
