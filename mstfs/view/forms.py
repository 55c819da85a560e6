"""The forms that a record can be shown in: atproto JSON, or its DAG-CBOR block as it is."""

from collections.abc import Callable
from dataclasses import dataclass

from mstfs.codec import dag_cbor
from mstfs.errors import CborError, RecordError
from mstfs.repo import record


@dataclass(frozen=True)
class Form:
    """`render` turns a block into a file's bytes; `parse` turns them back, or raises RecordError."""

    name: str
    suffix: bytes
    render: Callable[[bytes], bytes]
    parse: Callable[[bytes], bytes]


def _parse_cbor(data: bytes) -> bytes:
    try:
        dag_cbor.decode(data)
    except CborError as error:
        raise RecordError(str(error)) from error
    for defect in record.check_value(data):
        raise RecordError(defect.message)
    return data


JSON = Form("json", b".json", record.render, record.parse)
CBOR = Form("cbor", b".cbor", lambda block: block, _parse_cbor)
FORMS = {form.name: form for form in (JSON, CBOR)}
