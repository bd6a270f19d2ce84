"""A layout as a workspace of W&B, through the package wandb-workspaces; the one place that knows its classes."""

import os
import re
from typing import TYPE_CHECKING, Any

from salsa.dashboard.panels import Bars, Cloud, Family, Images, Layout, Lines, Panel, Section, Table

if TYPE_CHECKING:
    from wandb_workspaces.workspaces import Workspace

GROUPS_SHOWN = 50
"""Lines a panel: the arms of a study of three families, or the cells of a small sweep."""
COLUMNS, ROWS = 3, 2
"""Panels of a section that are seen at once."""
HTTP_SECONDS = "10"
"""How long the server may take to answer before it counts as out of reach, unless WANDB_HTTP_TIMEOUT is set."""


class DashboardError(Exception):
    """The workspace cannot be made; the text says why and what to do."""


def workspace(layout: Layout, entity: str, project: str) -> "Workspace":
    """Return a layout as a workspace that is not saved yet; asks nobody.

    Raises:
        DashboardError: if wandb-workspaces is not installed.
    """
    spaces, _ = _packages()
    return spaces.Workspace(
        entity=entity,
        project=project,
        name=layout.title,
        sections=[_section(section) for section in layout.sections],
        settings=spaces.WorkspaceSettings(max_runs=GROUPS_SHOWN),
        runset_settings=spaces.RunsetSettings(
            groupby=[spaces.Metric(attribute) for attribute in layout.grouping],
            pinned_columns=["run:displayName", *(f"summary:{key}" for key in layout.columns)],
        ),
    )


def save(layout: Layout, project: str, entity: str | None = None) -> str:
    """Save a layout as a new workspace of a project and return its address.

    `entity` is the user or team that owns the project; None means the one that is logged in.

    Raises:
        DashboardError: if wandb-workspaces or credentials are missing, or the server is out of reach or refuses.
    """
    _packages()
    os.environ.setdefault("WANDB_HTTP_TIMEOUT", HTTP_SECONDS)
    # Without it the client would ask for a key on a terminal; what is missing is said here instead.
    os.environ["WANDB_SILENT"] = "true"
    import wandb

    try:
        owner = entity or wandb.Api().default_entity
        if not owner:
            raise DashboardError("W&B knows no default entity for this login; name the user or team with --entity")
        saved = workspace(layout, owner, project).save()
        return str(saved.url)
    except DashboardError:
        raise
    except wandb.errors.AuthenticationError as error:
        raise DashboardError(
            f"W&B cannot be reached, or does not take the key: {_line(error)}; check the network and WANDB_BASE_URL, "
            "or run `wandb login --relogin`; --dry-run shows the layout without either"
        ) from error
    except wandb.errors.UsageError as error:
        raise DashboardError(
            "not logged in to W&B; run `wandb login` or set WANDB_API_KEY; --dry-run shows the layout without it"
        ) from error
    except Exception as error:  # the errors of the client and of its service have no common class
        where = f"{entity}/{project}" if entity else project
        raise DashboardError(
            f"W&B did not save the workspace of project {where}: {_line(error)}; the project must exist (the first run "
            "that is online or synced makes it) and be open to you for writing"
        ) from error


def _packages() -> tuple[Any, Any]:
    """Return the modules of workspaces and of panels."""
    try:
        import wandb_workspaces.reports.v2 as panels
        import wandb_workspaces.workspaces as spaces
    except ImportError as error:
        raise DashboardError(
            f"wandb-workspaces is missing ({error}): pip install 'salsa[dashboard]', or pip install wandb-workspaces; "
            "--dry-run and --json do without it"
        ) from error
    return spaces, panels


def _section(section: Section) -> Any:
    spaces, _ = _packages()
    return spaces.Section(
        name=section.title,
        panels=[_panel(panel) for panel in section.panels],
        is_open=section.shown,
        layout_settings=spaces.SectionLayoutSettings(columns=COLUMNS, rows=ROWS),
    )


def _panel(panel: Panel) -> Any:
    _, panels = _packages()
    if isinstance(panel, Lines | Family):
        return _lines(panel)
    if isinstance(panel, Bars):
        return panels.BarPlot(title=panel.title, metrics=list(panel.keys), title_x=panel.unit)
    if isinstance(panel, Cloud):
        x, y = panel.x, panel.y
        title = f"{panel.title}; x: {x.label}, y: {y.label}"  # a scatter plot has no titles of its axes
        return panels.ScatterPlot(title=title, x=panels.SummaryMetric(x.key), y=panels.SummaryMetric(y.key))
    if isinstance(panel, Images):
        return panels.MediaBrowser(title=panel.title, media_keys=list(panel.keys))
    assert isinstance(panel, Table)
    return panels.WeavePanelSummaryTable(table_name=panel.key)


def _lines(panel: Lines | Family) -> Any:
    """Return a line plot: means of the runs of a group, shaded from the least to the greatest."""
    _, panels = _packages()
    if isinstance(panel, Family):
        drawn: dict[str, Any] = {"metric_regex": f"^{re.escape(panel.prefix)}.+$"}
    else:
        drawn = {"y": list(panel.keys)}
    return panels.LinePlot(
        title=panel.title,
        x=panel.over.key,
        title_x=panel.over.label,
        title_y=panel.unit,
        groupby_aggfunc="mean",
        groupby_rangefunc="minmax",
        **drawn,
    )


def _line(error: BaseException) -> str:
    return str(error).strip().split("\n")[0] or type(error).__name__
