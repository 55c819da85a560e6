"""Reading the JSON of a record with a memory for places: what says line, column and reason.

Some five times slower than the C scanner that `record.parse` tries first, and it is the one that decides:
whatever it accepts is a record. The grammar is that of `json_text`, the rules on top are `record_rules`.
"""

from typing import Any

from mstfs.codec import json_text
from mstfs.codec.json_text import Frame
from mstfs.errors import CidError
from mstfs.repo import record_rules


def read(text: str) -> dict[str, Any]:
    """The value of a record's text. RecordError with line, column and reason if it is not a record."""
    return _Reader(text).record()


class _Reader(json_text.Reader):
    def record(self) -> dict[str, Any]:
        value, start = self.document()
        if not isinstance(value, dict):
            self.fail(start, "a record is a map: { ... }")
        return value

    def number(self, word: str) -> object:
        return record_rules.integer_from_text(word)

    def map_value(self, frame: Frame, fields: dict[str, Any]) -> object:
        if "$link" in fields or "$bytes" in fields:
            return self.special(frame, fields)
        flaw = record_rules.map_flaw(fields)
        if flaw is not None:
            self.fail(frame.places[flaw.field][1] if flaw.field else frame.opened, flaw.message)
        return fields

    def special(self, frame: Frame, fields: dict[str, Any]) -> object:
        """The link or the byte string that a map stands for."""
        name = "$link" if "$link" in fields else "$bytes"
        for other, (key_at, _) in frame.places.items():
            if other != name:
                self.fail(
                    key_at, f"a map with {name} has no other field, but here is {json_text.show(other)}"
                )
        text, value_at = fields[name], frame.places[name][1]
        if not isinstance(text, str):
            self.fail(value_at, f"the value of {name} is not a string")
        try:
            if name == "$bytes":
                return json_text.bytes_from_text(text, name)
            return json_text.link_from_text(text)
        except CidError:
            self.fail(value_at, f"the value of $link is not a CID: {json_text.show(text)}")
        except ValueError as error:
            self.fail(value_at, str(error))
