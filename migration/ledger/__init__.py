"""The ledger: append-only, hash-chained, in one SQLite file beside the county or on a PostgreSQL server.

record       events go in at the end and come out checked; the lease that every act needs
chain        whether what is stored is what was written
headfile     the end of the chain, beside the record
leases       who may change the network
databases    SQLite and PostgreSQL: what differs
schema       tables and triggers, revision by revision
revisions    making them, and upgrading what is older
errors       the tree of what can be wrong
"""

from migration.ledger.errors import (
    CampaignBusyError,
    KeyConflictError,
    LeaseLostError,
    LedgerBrokenError,
    LedgerError,
    LedgerFormatError,
    LedgerUnavailableError,
    UnfitBodyError,
)
from migration.ledger.headfile import HEAD_FILE
from migration.ledger.leases import LEASE_S, LOCK_FILE, Lease, LeaseState, campaign_lock, name_place
from migration.ledger.place import (
    URL_VARIABLE,
    LedgerGoneError,
    TwoLedgersError,
    find_ledger,
    has_ledger,
    refuse_gone_ledger,
)
from migration.ledger.record import ACTOR_VARIABLE, LEDGER_FILE, Ledger, Survey, current_actor, current_login

__all__ = [
    "ACTOR_VARIABLE",
    "HEAD_FILE",
    "LEASE_S",
    "LEDGER_FILE",
    "LOCK_FILE",
    "URL_VARIABLE",
    "CampaignBusyError",
    "KeyConflictError",
    "Lease",
    "LeaseLostError",
    "LeaseState",
    "Ledger",
    "LedgerBrokenError",
    "LedgerError",
    "LedgerFormatError",
    "LedgerGoneError",
    "LedgerUnavailableError",
    "Survey",
    "TwoLedgersError",
    "UnfitBodyError",
    "campaign_lock",
    "current_actor",
    "current_login",
    "find_ledger",
    "has_ledger",
    "name_place",
    "refuse_gone_ledger",
]
