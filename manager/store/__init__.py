"""Where the manager's desired state lives: revisioned keys behind one small interface with several backends."""

from pycompose.manager.store.interface import (
    Batch,
    CompactedError,
    Compare,
    Delete,
    Event,
    KeyValue,
    Operation,
    Put,
    Range,
    Revision,
    Store,
    StoreClosedError,
    StoreError,
    TooManyOperationsError,
    TransactionResult,
)

__all__ = [
    "Batch",
    "CompactedError",
    "Compare",
    "Delete",
    "Event",
    "KeyValue",
    "Operation",
    "Put",
    "Range",
    "Revision",
    "Store",
    "StoreClosedError",
    "StoreError",
    "TooManyOperationsError",
    "TransactionResult",
]
