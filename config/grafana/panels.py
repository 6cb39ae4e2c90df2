"""The kinds of panel that the dashboards consist of, so that they all look alike."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from grafana_foundation_sdk.builders import bargauge, common, dashboard, prometheus, stat, table, timeseries
from grafana_foundation_sdk.models import common as looks
from grafana_foundation_sdk.models.dashboard import (
    DashboardCursorSync,
    DashboardLinkType,
    DataSourceRef,
    DataTransformerConfig,
    DynamicConfigValue,
    FieldColorModeId,
    Threshold,
    ThresholdsMode,
    ValueMap,
    ValueMappingResult,
    VariableOption,
    VariableRefresh,
    VariableSort,
)
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

PROMETHEUS: Final = DataSourceRef(type_val="prometheus", uid="${datasource}")
COLORS: Final = {"^stable": "blue", "^candidate": "orange", "^pinned": "purple", "^(line|configured)": "red"}
TAG: Final = "canary-gateway"


@dataclass(frozen=True, slots=True)
class Query:
    """A PromQL expression and the legend of its series. `label`: its column in a table; empty: none."""

    expr: str
    legend: str = ""
    label: str = ""


def lines(title: str, unit: str, *queries: Query, says: str = "", width: int = 8, look: str = "") -> Any:
    """Values over time. `says`: the panel's description; `look`: stacked, or stepped for values that jump."""
    panel = (
        timeseries.Panel()
        .draw_style(looks.GraphDrawStyle.LINE)
        .line_width(2)
        .fill_opacity(30 if look == "stacked" else 8)
    )
    panel.legend(common.VizLegendOptions().display_mode(looks.LegendDisplayMode.LIST).show_legend(True).placement(
        looks.LegendPlacement.BOTTOM))  # fmt: skip
    panel.tooltip(common.VizTooltipOptions().mode(looks.TooltipDisplayMode.MULTI).sort(looks.SortOrder.DESCENDING))
    panel.show_points(looks.VisibilityMode.NEVER)
    if look == "stepped":
        panel.line_interpolation(looks.LineInterpolation.STEP_AFTER)
    if look == "stacked":
        panel.stacking(common.StackingConfig().mode(looks.StackingMode.NORMAL).group("A"))
    for pattern, color in COLORS.items():
        panel.override_by_regexp(f"/{pattern}/", [_fixed(color)])
    return _filled(panel.min(0) if unit != "none" else panel, title, unit, queries, says, width)


def number(title: str, unit: str, query: Query, *, says: str = "", width: int = 4, bad: str = "") -> Any:
    """The present value in large type. `bad`: the value from which on it is red, such as "1"."""
    panel = stat.Panel().graph_mode(looks.BigValueGraphMode.NONE).color_mode(looks.BigValueColorMode.VALUE)
    steps = [Threshold(value=None, color="green")]
    if bad:
        steps.append(Threshold(value=float(bad), color="red"))
    panel.thresholds(dashboard.ThresholdsConfig().mode(ThresholdsMode.ABSOLUTE).steps(steps))
    return _filled(panel, title, unit, [query], says, width, height=5, kind="instant")


def words(title: str, query: Query, texts: dict[str, tuple[str, str]], *, says: str = "", width: int = 4) -> Any:
    """One value shown as a word and a color. `texts`: word and color by value; empty: the name of the series."""
    panel = stat.Panel().graph_mode(looks.BigValueGraphMode.NONE).color_mode(looks.BigValueColorMode.BACKGROUND_SOLID)
    if texts:
        options = {value: ValueMappingResult(text=text, color=color) for value, (text, color) in texts.items()}
        panel.mappings([ValueMap(options=options)])
    else:
        panel.text_mode(looks.BigValueTextMode.NAME)
        panel.color_scheme(dashboard.FieldColor().mode(FieldColorModeId.FIXED).fixed_color("blue"))
    return _filled(panel, title, "none", [query], says, width, height=5, kind="instant")


def bars(title: str, unit: str, query: Query, *, says: str = "", width: int = 8, color: str = "orange") -> Any:
    """One bar for the present value of each series, from 0 to 1."""
    panel = bargauge.Panel().orientation(looks.VizOrientation.HORIZONTAL).display_mode(looks.BarGaugeDisplayMode.BASIC)
    panel.color_scheme(dashboard.FieldColor().mode(FieldColorModeId.FIXED).fixed_color(color))
    return _filled(panel.min(0).max(1), title, unit, [query], says, width, height=5, kind="instant")


def columns(
    title: str, units: dict[str, str], *queries: Query, says: str = "", width: int = 24, height: int = 5
) -> Any:
    """A table with a row for each set of labels and a column for each query; `units`: of the columns."""
    panel = table.Panel().show_header(True)
    values = {f"Value #{_letter(index)}": query.label for index, query in enumerate(queries)}
    panel.with_transformation(DataTransformerConfig(id_val="merge", options={}))
    hidden = {"Time": True} | {name: True for name, label in values.items() if not label}
    organize = {"excludeByName": hidden, "renameByName": {name: label for name, label in values.items() if label}}
    panel.with_transformation(DataTransformerConfig(id_val="organize", options=organize))
    for label, unit in units.items():
        panel.override_by_name(label, [DynamicConfigValue(id_val="unit", value=unit)])
    return _filled(panel, title, "short", queries, says, width, height, kind="table")


def page(title: str, uid: str, says: str, variables: Sequence[Any], rows: dict[str, list[Any]]) -> dashboard.Dashboard:
    """A dashboard: its variables, then its rows of panels, numbered in their order."""
    built = dashboard.Dashboard(title).uid(uid).description(says).tags([TAG]).readonly().timezone("browser")
    built.time("now-30m", "now").refresh("5s").tooltip(DashboardCursorSync.CROSSHAIR)
    built.link(dashboard.DashboardLink("canary-gateway").type(DashboardLinkType.DASHBOARDS).tags([TAG]).keep_time(True))
    built.with_variable(dashboard.DatasourceVariable("datasource").label("Prometheus").type("prometheus"))
    for variable in variables:
        built.with_variable(variable)
    numbers = iter(range(1, 1000))
    for name, panels in rows.items():
        built.with_row(dashboard.Row(name).id(next(numbers)))
        for panel in panels:
            built.with_panel(panel.id(next(numbers)))
    return built


def marks(name: str, expr: str, color: str) -> dashboard.AnnotationQuery:
    """Vertical lines in all panels, wherever the expression has a value."""
    return dashboard.AnnotationQuery().name(name).datasource(PROMETHEUS).enable(True).icon_color(color).expr(expr)


def window(*spans: str) -> dashboard.CustomVariable:
    """The variable `window`: over how long to average. The first span is the default."""
    options = [VariableOption(selected=index == 0, text=span, value=span) for index, span in enumerate(spans)]
    variable = dashboard.CustomVariable("window").label("over").values(",".join(spans))
    return variable.current(options[0]).options(options)


def _filled(
    panel: Any,
    title: str,
    unit: str,
    queries: Sequence[Query],
    says: str,
    width: int,
    height: int = 8,
    *,
    kind: str = "range",
) -> Any:
    panel.title(title).unit(unit).datasource(PROMETHEUS).span(width).height(height)
    if says:
        panel.description(says)
    for index, query in enumerate(queries):
        target = prometheus.Dataquery().expr(query.expr).ref_id(_letter(index)).datasource(PROMETHEUS)
        if kind == "range":
            panel.with_target(target.legend_format(query.legend).range())
        else:  # as it is now: over a range a series that has ended would be shown with its last value
            target.format(PromQueryFormat.TABLE if kind == "table" else PromQueryFormat.TIME_SERIES)
            panel.with_target(target.legend_format(query.legend).instant())
    return panel


def _letter(index: int) -> str:
    return "ABCDEFGHIJ"[index]


def _fixed(color: str) -> DynamicConfigValue:
    return DynamicConfigValue(id_val="color", value={"mode": "fixed", "fixedColor": color})


def choice(name: str, query: str, *, several: bool = False) -> dashboard.QueryVariable:
    """A variable whose values are those of a label; `several`: any number of them at once."""
    variable = dashboard.QueryVariable(name).query(query).datasource(PROMETHEUS)
    variable.refresh(VariableRefresh.ON_TIME_RANGE_CHANGED).sort(VariableSort.ALPHABETICAL_ASC)
    return variable.multi(True).include_all(True).all_value(".*") if several else variable


MODEL: Final = choice("model", "label_values(gateway_batch_size_count, model)")
INSTANCE: Final = choice("instance", "label_values(gateway_workers, instance)", several=True)
