"""What a fit of a table has come to, as text and as HTML."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from nnc.tabular.schema import Made


class Report:
    """str(report) is text, `_repr_html_` what a notebook shows, `html()` a page by itself.

    Parameters
    ----------
    title : str
        "TableClassifier".
    facts : mapping of str
        Lines such as {"rows": "2,400 for training, 600 for validation", "members": "8", "time": "7.9 s"}, as they are shown.
    columns : sequence of Made
        What `Schema.describe` gives.
    importances : mapping of str to float, optional
        Of columns by name.
    curves : mapping of str to sequence of float, optional
        By name, a value for each epoch: of the members' scores on validation rows, say.
    """

    def __init__(
        self,
        title: str,
        facts: Mapping[str, str],
        columns: Sequence[Made],
        importances: Mapping[str, float] | None = None,
        curves: Mapping[str, Sequence[float]] | None = None,
    ) -> None:
        raise NotImplementedError
