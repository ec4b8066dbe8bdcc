"""Whether topics are those that a run began with: one that was deleted and made anew has only its name."""

from __future__ import annotations

from collections.abc import Iterator, Mapping


def made_anew(was: Mapping[str, str], now: Mapping[str, str], reads: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Each topic that is another one now, or is gone, and what follows.

    ``was`` are the brokers' ids by topic as a run began, ``now`` those of the topics that exist, and ``reads`` those of
    ``was`` that the run reads, not writes.
    """
    for topic in sorted(was):
        if now.get(topic) == was[topic]:
            continue
        if topic not in now:
            yield topic, f"{topic} is gone: it was deleted under the job"
        elif topic in reads:
            yield (
                topic,
                f"{topic} was deleted and made anew under the job: what it held then is gone, and of what it holds now "
                "the job has skipped the records before the offset that it had come to",
            )
        else:
            yield topic, f"{topic} was deleted and made anew under the job: what the job had written to it is gone"
