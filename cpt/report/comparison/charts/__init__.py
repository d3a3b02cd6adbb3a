"""Charts of several runs, each one inline SVG. A run is a colour, a dash pattern and a number in a ring."""

from cpt.report.comparison.charts.bars import tokens_by_source
from cpt.report.comparison.charts.changes import Line, intervals
from cpt.report.comparison.charts.curves import Curve, curve_chart
from cpt.report.comparison.charts.rings import role
from cpt.report.comparison.charts.trade_off import trade_off

__all__ = ["Curve", "Line", "curve_chart", "intervals", "role", "tokens_by_source", "trade_off"]
