# SPDX-License-Identifier: LGPL-2.1-or-later
"""The contract of docs/events.md, read from its tables, and a check of what is sent against it."""
import pathlib
import re

DOC = pathlib.Path(__file__).resolve().parents[2] / "docs/events.md"
TYPES = {"string": str, "integer": int, "number": (int, float), "boolean": bool, "object": dict,
         "list": list}
BARE = ("lost", "report")     # without the members of every event


def _tables():
    """{heading: {member: type}} of all tables of members."""
    tables, heading = {}, None
    for line in DOC.read_text(encoding="utf-8").splitlines():
        title = re.match(r"#{2,3} (.*)", line)
        row = re.match(r"\| `(\w+)` \| ((?:string|integer|number|boolean|object|list)"
                       r"(?: or null)?(?: or absent)?) \|", line)
        if title:
            heading = title[1]
        elif row:
            tables.setdefault(heading, {})[row[1]] = row[2].strip()
    return tables


TABLES = _tables()
COMMON = TABLES["Members of every event"]
EVENTS = {name: members for name, members in TABLES.items() if re.fullmatch(r"[a-z]+", name)}


def problems(members, table, what):
    """What of an object is not as its table says."""
    found = [f"{what}: \"{name}\" is not documented" for name in members if name not in table]
    for name, kind in table.items():
        if name not in members:
            if "or absent" not in kind:
                found.append(f"{what}: \"{name}\" is missing")
            continue
        value, base = members[name], TYPES[kind.split()[0]]
        if value is None:
            if "or null" not in kind:
                found.append(f"{what}: \"{name}\" is null, wanted {kind}")
        elif not isinstance(value, base) or (isinstance(value, bool) and base is not bool):
            found.append(f"{what}: \"{name}\" is {value!r}, wanted {kind}")
    return found


def problems_of_event(event):
    """The same of an event."""
    kind = event.get("event")
    if kind not in EVENTS:
        return [f"event {kind!r} is not documented"]
    common = {"event": COMMON["event"]} if kind in BARE else COMMON
    return problems(event, {**common, **EVENTS[kind]}, f"event {kind}")
