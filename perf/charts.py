"""Bar charts as SVG, without a plotting library."""

from html import escape

COLOURS = ("#2b6cb0", "#c05621", "#718096", "#2f855a")
WIDTH = 960
BAR_HEIGHT = 15
GAP = 12
LABEL_WIDTH = 150
HEAD_HEIGHT = 64
VALUE_WIDTH = 90


def bars(title: str, unit: str, series: list[str], groups: list[tuple[str, list[float | None]]]) -> str:
    """Horizontal bars in groups: a group has a label and one value for each of the series."""
    top = max((value for _, values in groups for value in values if value is not None), default=1) or 1
    group_height = len(series) * BAR_HEIGHT + GAP
    height = HEAD_HEIGHT + group_height * len(groups) + GAP
    scale = (WIDTH - LABEL_WIDTH - VALUE_WIDTH) / top
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" '
        f'viewBox="0 0 {WIDTH} {height}" font-family="sans-serif" font-size="12">',
        f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>',
        f'<text x="12" y="24" font-size="16" font-weight="bold">{escape(title)}</text>',
    ]
    for i, name in enumerate(series):
        x = 12 + i * 200
        out.append(f'<rect x="{x}" y="36" width="12" height="12" fill="{COLOURS[i % len(COLOURS)]}"/>')
        out.append(f'<text x="{x + 18}" y="46">{escape(name)}</text>')
    for row, (label, values) in enumerate(groups):
        y = HEAD_HEIGHT + row * group_height
        middle = y + len(series) * BAR_HEIGHT / 2 + 4
        out.append(f'<text x="{LABEL_WIDTH - 8}" y="{middle:.0f}" text-anchor="end">{escape(label)}</text>')
        for i, value in enumerate(values):
            if value is None:
                continue
            length = max(1.0, value * scale)
            bar_y = y + i * BAR_HEIGHT
            out.append(f'<rect x="{LABEL_WIDTH}" y="{bar_y}" width="{length:.1f}" height="{BAR_HEIGHT - 2}" '
                       f'fill="{COLOURS[i % len(COLOURS)]}"/>')
            out.append(f'<text x="{LABEL_WIDTH + length + 5:.1f}" y="{bar_y + 11}" font-size="11">'
                       f'{value:,.3g} {escape(unit)}</text>')
    out.append("</svg>")
    return "\n".join(out) + "\n"
