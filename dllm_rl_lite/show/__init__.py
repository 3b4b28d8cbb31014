"""Pictures and tables for notebooks: filmstrip, player, learning curves, panels, a method beside
its parent. Nothing here computes a result.
"""

from .charts import CYCLE, METHOD_COLOURS, curves, intervals, panels
from .filmstrips import END, cell_text, filmstrip, frames
from .method_diffs import method_table, source_diff
from .players import player
from .styles import header, style
from .tables import before_after, shorten, table
