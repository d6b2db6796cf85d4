"""Validation of two members of a document: the training state, and the settings of the last fit."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nnc._registry import optimizers
from nnc._utils import fields

if TYPE_CHECKING:
    from typing import Any

TRAINING_KEYS = ("optimizer", "steps", "powers", "epoch", "schedule", "moments", "history")
COUNTER_BITS = 53  # counters of steps and epochs have at most this many bits, so that a float64 represents them exactly
MAX_NESTED_SCHEDULES = 8


def checked_settings(settings: Any) -> dict[str, Any] | None:
    """Return a validated copy of the member "settings", the settings of the last fit."""
    if settings is None:
        return None
    where = "settings."
    fields.json_object(settings, "settings")
    lr = fields.member(settings, "lr", type(None), str, dict, float, int, where=where)
    if type(lr) is dict:
        lr = _checked_schedule(lr, where + "lr")
    elif type(lr) in (float, int):
        lr = fields.number(lr, where + "lr")
    epochs = fields.member(settings, "epochs", type(None), int, where=where)
    return {
        "preset": fields.choice(settings, "preset", ("auto", "plain"), where),
        "optimizer": _checked_optimizer(fields.member(settings, "optimizer", dict, where=where), where + "optimizer"),
        "lr": lr,
        "batch_size": fields.size(settings.get("batch_size"), where + "batch_size"),
        "epochs": None if epochs is None else fields.unsigned(settings, "epochs", None, where, COUNTER_BITS),
        "selection": fields.member({"selection": None, **settings}, "selection", type(None), str, where=where),
    }


def checked_training(training: Any, n_params: int, largest: float) -> dict[str, Any] | None:
    """Return a validated copy of the training state of a network with `n_params` parameters.

    The absolute values of the moments must not exceed `largest`, the largest finite number of the dtype.
    """
    if training is None:
        return None
    where = "training."
    by_rule = "by_rule" in fields.json_object(training, "training")
    optimizer = _checked_optimizer(fields.member(training, "optimizer", dict, where=where), where + "optimizer")
    has_limit = by_rule and "max_epochs" in training
    has_damping = optimizer["name"] == "levenberg_marquardt" and "damping" in training
    optional = [*["by_rule"] * by_rule, *["max_epochs"] * has_limit, *["damping"] * has_damping]
    fields.check_keys(training, (*TRAINING_KEYS, *optional), "training")
    powers = fields.vector(fields.member(training, "powers", list, where=where), 3, where + "powers")
    schedule = fields.member(training, "schedule", dict, type(None), where=where)
    moments = fields.member(training, "moments", list, where=where)
    n_moments = optimizers.ROWS[optimizer["name"]].count_moments(optimizer)
    if len(moments) != n_moments:
        name = fields.describe(optimizer["name"])
        raise ValueError(f"training.moments has {len(moments)} vectors, expected {n_moments} for optimizer {name}")
    if not all(0 <= power <= 1 for power in powers):
        i = next(i for i, power in enumerate(powers) if not 0 <= power <= 1)
        raise ValueError(f"training.powers[{i}] is {fields.describe(powers[i])}, expected a number from 0 to 1")
    moments = fields.matrix(moments, n_params, lambda i: f"training.moments[{i}]", "the number of parameters", largest)
    row = optimizers.ROWS[optimizer["name"]]
    if row.base_moments and not row.signed_moments and fields.smallest(moments[-1]) < 0:
        i = next(i for i, number in enumerate(moments[-1]) if number < 0)
        location = f"training.moments[{len(moments) - 1}][{i}]"
        raise ValueError(f"{location} is {fields.describe(moments[-1][i])}, expected a number of at least 0")
    if by_rule and not (
        fields.member(training, "by_rule", bool, where=where)
        and optimizer["name"] in ("adam", "adamw")
        and (schedule is None or (schedule.get("name") == "PerStep" and schedule.get("epochs") is not None))
    ):
        expected = 'true, with the optimizer "adam" or "adamw" and the schedule null or "PerStep" with epochs'
        raise ValueError(f"{where}by_rule is {fields.describe(training['by_rule'])}, expected {expected}")
    return {
        "optimizer": optimizer,
        "steps": fields.unsigned(training, "steps", 0, where, COUNTER_BITS),
        "powers": powers,
        "epoch": fields.unsigned(training, "epoch", 0, where, COUNTER_BITS),
        "schedule": None if schedule is None else _checked_schedule(schedule, where + "schedule"),
        "moments": moments,
        "history": _checked_history(fields.member(training, "history", dict, where=where)),
        **({"by_rule": True} if by_rule else {}),
        **({"max_epochs": fields.unsigned(training, "max_epochs", 0, where, COUNTER_BITS)} if has_limit else {}),
        **({"damping": _checked_damping(training["damping"], where + "damping")} if has_damping else {}),
    }


def _checked_damping(value: Any, where: str) -> float:
    """Return the validated current damping of Levenberg-Marquardt."""
    damping = fields.number(value, where)
    if damping <= 0:
        raise ValueError(f"{where} is {fields.describe(value)}, expected a number above 0")
    return damping


def _checked_optimizer(optimizer: dict[str, Any], where: str) -> dict[str, Any]:
    """Return a validated copy of the name and options of an optimizer."""
    name = fields.choice(optimizer, "name", tuple(optimizers.ROWS), where + ".")
    defaults = optimizers.ROWS[name].defaults()
    # Files of 0.1.0 have no scaling. Do not add it, because their checksum does not include it.
    if name == "levenberg_marquardt" and "scaling" not in optimizer:
        del defaults["scaling"]
    fields.check_keys(optimizer, ("name", *defaults), where)
    checked_members: dict[str, Any] = {"name": name}
    for key, default in defaults.items():
        location = f"{where}.{key}"
        if type(default) is bool:
            checked_members[key] = fields.member(optimizer, key, bool, where=where + ".")
        elif type(default) is int:
            checked_members[key] = fields.unsigned(optimizer, key, 0, where + ".")
        elif type(default) is str:
            checked_members[key] = fields.choice(optimizer, key, optimizers.SCALINGS, where + ".")
        elif type(default) is tuple:
            checked_members[key] = fields.vector(fields.member(optimizer, key, list, where=where + "."), 2, location)
        else:
            checked_members[key] = fields.number(optimizer[key], location)
    return checked_members


def _checked_schedule(schedule: dict[str, Any], where: str, depth: int = 1) -> dict[str, Any]:
    """Return a validated copy of the options of a learning rate schedule.

    Options are numbers, strings, null and at most one nested schedule. Their meaning is checked later, when the
    schedule is created.
    """
    if depth > MAX_NESTED_SCHEDULES:
        raise ValueError(f"{where} is nested too deeply, expected at most {MAX_NESTED_SCHEDULES} levels of schedules")
    if depth == 1:
        fields.member(schedule, "name", str, where=where + ".")
    checked_members: dict[str, Any] = {}
    for key, value in schedule.items():
        location = f"{where}.{fields.describe(key)[1:-1]}"
        if type(value) is dict:
            if dict in map(type, checked_members.values()):
                raise ValueError(f"{where} must contain at most one other schedule, got a second one in {location}")
            checked_members[key] = _checked_schedule(value, location, depth + 1)
        elif value is None or type(value) is str:
            checked_members[key] = value
        else:
            number = fields.number(value, location, "null, a string, an object or a finite number")
            checked_members[key] = value if type(value) is int else number
    return checked_members


def _checked_history(history: dict[str, Any]) -> dict[str, Any]:
    """Return a validated copy of the columns of a training history, which must have the same length."""
    n = len(fields.member(history, "loss", list, where="training.history."))
    checked_columns: dict[str, Any] = {}
    for key in dict.fromkeys(("loss", "lr", "seconds", *history)):
        column = fields.member(history, key, list, where="training.history.")
        location = f"training.history.{fields.describe(key)[1:-1]}"
        # In a history, only loss, lr and seconds must not contain null. To check the other columns, 0 replaces null.
        filled = column if key in ("loss", "lr", "seconds") else [0.0 if x is None else x for x in column]
        numbers = fields.vector(filled, n, location, "the length of loss")
        checked_columns[key] = [None if x is None else number for x, number in zip(column, numbers, strict=True)]
    return checked_columns
