"""Opt-in request texts and the feedback on them, in the bucket, for retraining. Decides nothing about consent.

t/<tenant>/captures/<day>/<ulid>-<gateway>[.<sha>].jsonl.gz    lines: requests and feedback, joined on reading
t/<tenant>/erasures/<ulid>.<pseudonym>.<asked|found|done>      whose records must go, and how far that is
t/<tenant>/pseudonyms/key                                      what pseudonyms are made with
"""

from registry.captures.reader import Captured, read_captures
from registry.captures.records import CaptureRecord, FeedbackRecord
from registry.captures.writer import FLUSH_AFTER_S, FLUSH_RECORDS, MAX_BUFFERED, CaptureWriter

__all__ = [
    "FLUSH_AFTER_S",
    "FLUSH_RECORDS",
    "MAX_BUFFERED",
    "CaptureRecord",
    "CaptureWriter",
    "Captured",
    "FeedbackRecord",
    "read_captures",
]
