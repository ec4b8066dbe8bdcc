"""The table of checks, in the order in which they are shown."""

from __future__ import annotations

from surecount.doctor import flink_rules, flow_rules, job_rules, kafka_rules, reading_rules, topic_ids
from surecount.doctor.findings import Check

CHECKS: tuple[Check, ...] = (
    Check(
        "transaction_max_timeout",
        "`sink.transaction_timeout` against each broker's `transaction.max.timeout.ms`",
        "a broker refuses a producer that asks for more, so the job would fail at its start, again and again",
        "lower sink.transaction_timeout, or raise transaction.max.timeout.ms of every broker",
        kafka_rules.transaction_max_timeout,
        before_start=True,
    ),
    Check(
        "rights",
        "the rights that `surecount acls` lists for jobs and operators, where clients log in",
        "a job without one fails at its start, or cannot commit how far it has read",
        "`surecount acls PIPELINE` prints them",
        kafka_rules.rights,
        before_start=True,
    ),
    Check(
        "request_size",
        "each broker's `socket.request.max.bytes` against the largest record that the jobs write, 64 MiB",
        "a broker closes the connection on a larger request, and the job restarts with that record again and again",
        "raise socket.request.max.bytes of every broker to its default, 104857600",
        kafka_rules.request_size,
        before_start=True,
    ),
    Check(
        "outage",
        "`sink.transaction_timeout` without `checkpoint.timeout` and `checkpoint.interval`",
        "a broker aborts a transaction that is too old, even where a checkpoint counts on it: what it held is lost",
        "raise sink.transaction_timeout (and the brokers' transaction.max.timeout.ms), or lower checkpoint.timeout",
        kafka_rules.outage,
        before_start=True,
    ),
    Check(
        "transactional_ids",
        "the prefixes of the sinks' transactional ids",
        "the connector looks for transactions to abort with startsWith",
        "name jobs and pathways so that no prefix begins with another",
        reading_rules.transactional_ids,
        before_start=True,
    ),
    Check(
        "replication",
        "replication factor and `min.insync.replicas` of the pipeline's topics, of `__transaction_state` and of "
        "`__consumer_offsets`, where there are three brokers",
        "what is on one broker only is lost with it, and so are transactions and offsets",
        "kafka-reassign-partitions.sh adds replicas, kafka-configs.sh sets min.insync.replicas=2",
        kafka_rules.replication,
        before_start=True,
    ),
    Check(
        "in_sync",
        "leaders and copies of every partition of these topics",
        "a partition without a leader, or with fewer copies up to date than `min.insync.replicas`, stops the job",
        "bring the missing brokers back",
        kafka_rules.in_sync,
        before_start=True,
    ),
    Check(
        "outputs",
        "timestamps, clean-up policy, sizes, copies and retention of the topics that the jobs write",
        "retention by event time deletes old results as they come; compaction loses records, and a limit of size, "
        "time or copies stops the job at the first record that is over it, for ever",
        "alter the topic",
        kafka_rules.outputs,
    ),
    Check(
        "raw_topics",
        "that raw topics are there, their clean-up policy and timestamp type",
        "compaction removes records before they are counted; LogAppendTime replaces Kafka's event time",
        "kafka-configs.sh sets cleanup.policy=delete, or message.timestamp.type=CreateTime",
        kafka_rules.raw_topics,
        before_start=True,
    ),
    Check(
        "timestamp_limit",
        "`message.timestamp.after.max.ms` of raw topics with CreateTime",
        "event times may be ahead of Kafka's timestamps by `source.max_ahead` and no more; where those may be any, "
        "records from the future are counted in windows that stay open until then",
        "kafka-configs.sh --alter --entity-type topics --entity-name TOPIC --add-config "
        "message.timestamp.after.max.ms=3600000, which is Kafka's default since 4.0",
        kafka_rules.timestamp_limit,
    ),
    Check(
        "unread_records",
        "the offsets that each job has committed, against the log's start and its retention",
        "Kafka deletes what is too old, read or not; a job whose next record is gone fails, and starts again only "
        "where that is accepted",
        "raise retention.ms of the topic now, and let the job catch up; a start then names what is gone",
        reading_rules.unread_records,
    ),
    Check(
        "same_topics",
        "the brokers' ids of the topics that running jobs read and write, against those that they began with",
        "of a topic that is deleted and made anew under a job, the job skips the records before its own offset, or "
        "fails while the topic ends before that; of an output, readers lose what it held",
        "stop the job; bring the topic back from a mirror (`surecount recover`), or give the pipeline another name, so "
        "that it begins from nothing; `surecount audit` tells what is missing",
        topic_ids.same_topics,
    ),
    Check(
        "last_stable_offset",
        "high watermark without last stable offset of each partition, and which transaction holds it",
        "readers of committed records, jobs and audit among them, see nothing behind the oldest open transaction",
        "let its producer commit or abort it; once it is gone for good, the broker aborts it at its timeout, or "
        "kafka-transactions.sh abort does at once",
        reading_rules.last_stable_offset,
    ),
    Check(
        "open_transactions",
        "open transactions by prefix and age: this pipeline's, and others' on its topics",
        "one that a job has left holds readers back, and is lost when the broker aborts it before the job is back",
        "start the job again before that, it commits or aborts its own; never abort this pipeline's by hand",
        reading_rules.open_transactions,
    ),
    Check(
        "snapshot_folders",
        "`execution.checkpointing.dir` and `execution.checkpointing.savepoint-dir`",
        "without a folder, state of more than 5 MB fails every checkpoint, and nothing could be restored",
        "set both in Flink's config.yaml, to folders that outlive its machines",
        flink_rules.folders,
        before_start=True,
    ),
    Check(
        "checkpoint_retention",
        "`execution.checkpointing.externalized-checkpoint-retention`",
        "Flink removes the checkpoints of a job that ends, and a crashed one could not go on",
        "set it to RETAIN_ON_CANCELLATION in Flink's config.yaml",
        flink_rules.retention,
        before_start=True,
    ),
    Check(
        "checkpoint_mode",
        "`execution.checkpointing.mode`",
        "at least once is not exactly once: records count twice after a failure",
        "set it to EXACTLY_ONCE in Flink's config.yaml",
        flink_rules.mode,
        before_start=True,
    ),
    Check(
        "tolerable_failures",
        "`execution.checkpointing.tolerable-failed-checkpoints`",
        "with 0, Flink's default, a healthy job restarts because storage was slow once",
        "set it to 3 in Flink's config.yaml",
        flink_rules.tolerable,
        before_start=True,
    ),
    Check(
        "state_backend",
        "`state.backend.type`",
        "hashmap keeps all state in the JVM's heap, and uploads all of it at every checkpoint",
        "set it to rocksdb in Flink's config.yaml",
        flink_rules.backend,
        before_start=True,
    ),
    Check(
        "restart_strategy",
        "`restart-strategy.type`",
        "without restarts the first failure, such as a broker's restart, ends the job",
        "set it to exponential-delay in Flink's config.yaml",
        flink_rules.restart_strategy,
        before_start=True,
    ),
    Check(
        "python_mode",
        "`python.execution-mode`",
        "thread mode falls back silently for some operators, and hung in two of three programs tried; surecount's jobs "
        "ask for processes themselves, others on the cluster may not",
        "set it to process in Flink's config.yaml",
        flink_rules.python_mode,
        before_start=True,
    ),
    Check(
        "jars",
        "the jars of the Kafka connector, packs, zstd and Python at the JobManager and at each TaskManager",
        "a job that meets a class which is not there restarts for ever",
        "put the jars of java/target/flink, and flink-python from Flink's opt folder, into every lib folder, and "
        "restart Flink",
        flink_rules.jars,
        before_start=True,
    ),
    Check(
        "slots",
        "free slots, against what the jobs need that don't run",
        "a job without slots waits for them, and fails after 5 minutes",
        "add TaskManagers or slots, or stop other jobs; a cluster that starts TaskManagers on demand may do so itself",
        job_rules.slots,
        before_start=True,
    ),
    Check(
        "parallelism",
        "each job's parallelism against the partitions that it reads",
        "a subtask of the source without a partition takes a slot and reads nothing",
        "`surecount rescale`, or add partitions",
        job_rules.parallelism,
    ),
    Check(
        "idle_partitions",
        "partitions without records, against `source.idle_after`",
        "until a partition counts as idle, no window closes",
        "lower source.idle_after",
        job_rules.idle_partitions,
    ),
    Check(
        "running",
        "that a job which was started and not stopped runs",
        "nothing is counted, and what its last checkpoint holds is lost at sink.transaction_timeout",
        "`surecount start`",
        job_rules.running,
    ),
    Check(
        "restarts",
        "restarts of running jobs, and their cause: failed when within 10 minutes, or when no checkpoint was completed "
        "since",
        "a job that restarts works again on what it had done, and results come late; one that goes on doing so never "
        "comes to a checkpoint",
        "mend the cause; the TaskManager's log has more of it",
        job_rules.restarts,
    ),
    Check(
        "checkpoints",
        "the last checkpoint's outcome and age",
        "results become readable at checkpoints only, and a restart goes back to the last one",
        "the cause is in the JobManager's log; too slow ones need faster storage, more memory, or a longer "
        "checkpoint.timeout",
        job_rules.checkpoints,
    ),
    Check(
        "failed_commits",
        "Flink's metric `failedCommittables` of each sink, which begins anew when the job restarts, and what the run "
        "ledger remembers of it",
        "Flink only counts a commit that fails: the job runs on, and its records are gone. After a restart one of an "
        "aborted checkpoint may be harmless",
        "`surecount audit` tells which results are missing, once those of a later window can be read; once that is "
        "known, `surecount doctor PIPELINE --accept lost_commits` has the ledger keep that it is accepted",
        job_rules.failed_commits,
    ),
    Check(
        "watermarks",
        "the watermark of each running job, and of each partition, against the clock and against the records read",
        "with one in the future all that comes is late, and with one that stands still no window closes: the job runs, "
        "and nothing right comes out",
        "see what the records' timestamps are",
        flow_rules.watermarks,
    ),
    Check(
        "shares",
        "the share of records in the last 5 minutes that were rejected, duplicates, or too late for their windows, "
        "against the 6 hours before",
        "rejects and corrections keep the books balanced, and yet a pipeline that rejects what it used to count is of "
        "no use",
        "`surecount rejects count` says why; mend the producer, or the pipeline file, and `surecount rejects replay`",
        flow_rules.shares,
    ),
    Check(
        "flink_versions",
        "Flink's version here, at the JobManager and at each TaskManager",
        "snapshots and REST answers differ between versions",
        "install one version everywhere",
        flink_rules.flink_versions,
        before_start=True,
    ),
    Check(
        "connector_versions",
        "the jars of the Kafka connector, packs, zstd and Python here, at the JobManager and at each TaskManager",
        "the sinks' state and transactions differ between versions, and so may the layout of packs",
        "put the jars of java/target/flink into every lib folder",
        flink_rules.connector_versions,
        before_start=True,
    ),
    Check(
        "java_versions",
        "the Java of the JobManager and of each TaskManager",
        "the jar of packs is compiled for Java 17: an older one loads no class of it, and the job restarts for ever",
        "install Java 17 or later there",
        flink_rules.java_versions,
        before_start=True,
    ),
    Check(
        "logging_versions",
        "the jars of log4j here, at the JobManager and at each TaskManager",
        "Flink's distribution brings an older one than java/pom.xml, which is taken where a lib folder has both",
        "put the log4j jars of java/target/flink into every lib folder, in place of those that are there",
        flink_rules.logging_versions,
    ),
    Check(
        "worker_versions",
        "Python, apache-flink, pyarrow and numpy of the Python workers, as these tell, against those here",
        "code is pickled here and run there",
        "install requirements.lock on the workers",
        flink_rules.worker_versions,
    ),
    Check(
        "run_versions",
        "the surecount with which each running job was submitted",
        "a job runs the code that it was submitted with, whatever is installed since",
        "stop and start the job to run this version",
        flink_rules.run_versions,
    ),
    Check(
        "broker_versions",
        "the feature levels that the brokers have agreed on; they do not tell the version of their software",
        "levels decide how transactions work",
        "kafka-features.sh upgrade",
        flink_rules.broker_versions,
    ),
)

BEFORE_START = tuple(check for check in CHECKS if check.before_start)
