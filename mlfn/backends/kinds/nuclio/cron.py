"""Schedules of cron: five fields, in UTC; a sixth in front of them counts seconds."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta

from mlfn.errors import OptionError
from mlfn.host.frozen import frozen

_FIELDS = (("minute", 0, 59), ("hour", 0, 23), ("day", 1, 31), ("month", 1, 12), ("weekday", 0, 7))
_SECOND = ("second", 0, 59)
_MONTHS = {
    name: number
    for number, name in enumerate(
        ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"], 1
    )
}
_DAYS = {name: number for number, name in enumerate(["sun", "mon", "tue", "wed", "thu", "fri", "sat"])}
_MACROS = {
    "@yearly": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@hourly": "0 * * * *",
}
_YEARS = 8  # a 29th of February comes at least that often


@frozen
class Schedule:
    """The values that each field allows; `days_alone` and `weekdays_alone` say whether a field was given, and not ``*``."""

    seconds: frozenset[int]
    minutes: frozenset[int]
    hours: frozenset[int]
    days: frozenset[int]
    months: frozenset[int]
    weekdays: frozenset[int]
    has_days: bool
    has_weekdays: bool

    def allows(self, day: datetime) -> bool:
        """Return whether it fires on this day. Where both day and weekday are given, either will do, as cron has it."""
        if day.month not in self.months:
            return False
        by_day, by_weekday = day.day in self.days, (day.weekday() + 1) % 7 in self.weekdays
        return by_day or by_weekday if self.has_days and self.has_weekdays else by_day and by_weekday


def check_schedule(text: str) -> Schedule:
    """Return a schedule, read; OptionError names the field that does not fit, or says that no day does."""
    parts = _MACROS.get(text.strip().lower(), text).split()
    if len(parts) not in (5, 6):
        raise OptionError(
            f"Cron({text!r}) has {len(parts)} fields: five are allowed (minute, hour, day, month, weekday), as in "
            "'*/5 * * * *', or six with seconds first."
        )
    names = (_SECOND, *_FIELDS)
    # As the engine has it: a leading * of six is second 0.
    values = ["0", *parts] if len(parts) == 5 else ["0" if parts[0] == "*" else parts[0], *parts[1:]]
    read = [frozenset(_values(text, part, *field)) for part, field in zip(values, names, strict=True)]
    seconds, minutes, hours, days, months, weekdays = read
    schedule = Schedule(
        seconds,
        minutes,
        hours,
        days,
        months,
        frozenset(day % 7 for day in weekdays),
        has_days=not values[3].startswith("*"),
        has_weekdays=not values[5].startswith("*"),
    )
    if not any(schedule.allows(datetime(2024, 1, 1) + timedelta(days=day)) for day in range(366)):  # noqa: DTZ001
        raise OptionError(f"Cron({text!r}) never fires: no month has such a day.")
    return schedule


def next_time(schedule: Schedule, after: datetime) -> datetime:
    """Return the first time after `after` at which a schedule fires; both in one zone."""
    start = after.replace(microsecond=0) + timedelta(seconds=1)
    day = start.replace(hour=0, minute=0, second=0)
    for _ in range(366 * _YEARS):
        if schedule.allows(day):
            for moment in _moments(schedule, day):
                if moment >= start:
                    return moment
        day += timedelta(days=1)
    raise AssertionError("a checked schedule fires within some years")


def _moments(schedule: Schedule, day: datetime) -> Iterator[datetime]:
    for hour in sorted(schedule.hours):
        for minute in sorted(schedule.minutes):
            for second in sorted(schedule.seconds):
                yield day.replace(hour=hour, minute=minute, second=second)


def _values(text: str, part: str, name: str, least: int, most: int) -> Iterator[int]:
    for item in part.split(","):
        span, has_step, step = item.partition("/")
        first, has_end, last = span.partition("-")
        try:
            low = least if first in ("*", "?") else _number(first, name)
            high = _number(last, name) if has_end else most if first in ("*", "?") or has_step else low
            every = int(step) if has_step else 1
        except ValueError:
            raise _misfit(text, item, name, least, most) from None
        if not least <= low <= high <= most or every < 1:
            raise _misfit(text, item, name, least, most)
        yield from range(low, high + 1, every)


def _number(text: str, name: str) -> int:
    named = {"month": _MONTHS, "weekday": _DAYS}.get(name, {})
    return named[text.lower()] if text.lower() in named else int(text)


def _misfit(text: str, item: str, name: str, least: int, most: int) -> OptionError:
    return OptionError(
        f"Cron({text!r}): the {name} {item!r} does not fit: {least} to {most} is allowed, and *, ranges as in 1-5, steps as in "
        "*/5 and lists as in 1,15."
    )
