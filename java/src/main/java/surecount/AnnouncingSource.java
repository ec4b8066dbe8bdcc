package surecount;

import java.io.Serializable;
import java.util.ArrayDeque;
import java.util.ArrayList;
import java.util.Collection;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Queue;
import java.util.concurrent.CompletableFuture;
import org.apache.flink.api.common.typeinfo.TypeInformation;
import org.apache.flink.api.connector.source.Boundedness;
import org.apache.flink.api.connector.source.ReaderOutput;
import org.apache.flink.api.connector.source.Source;
import org.apache.flink.api.connector.source.SourceEvent;
import org.apache.flink.api.connector.source.SourceReader;
import org.apache.flink.api.connector.source.SourceReaderContext;
import org.apache.flink.api.connector.source.SplitEnumerator;
import org.apache.flink.api.connector.source.SplitEnumeratorContext;
import org.apache.flink.api.java.typeutils.ResultTypeQueryable;
import org.apache.flink.connector.kafka.source.KafkaSource;
import org.apache.flink.connector.kafka.source.enumerator.KafkaSourceEnumState;
import org.apache.flink.connector.kafka.source.split.KafkaPartitionSplit;
import org.apache.flink.core.io.InputStatus;
import org.apache.flink.core.io.SimpleVersionedSerializer;
import org.apache.flink.streaming.api.lineage.LineageVertex;
import org.apache.flink.streaming.api.lineage.LineageVertexProvider;

/**
 * A Kafka source that announces each partition that a reader gets, before its first record, and begins behind records
 * that are gone where that was accepted.
 *
 * <p>{@link Decoded} makes watermarks, behind the reader. It has to know which partitions to wait for while no record
 * of them has come.
 *
 * <p>No consumer of ours sets an offset by itself. Where a snapshot's offset is not there any more, and whoever starts
 * the job has accepted that, the offset to begin at instead is given.
 */
public final class AnnouncingSource<T>
        implements Source<T, KafkaPartitionSplit, KafkaSourceEnumState>,
                ResultTypeQueryable<T>,
                LineageVertexProvider {

    private static final long serialVersionUID = 1L;

    /** A stopping offset that is never reached: of a split that was moved, which is not done again. */
    static final long MOVED = Long.MAX_VALUE;

    private final KafkaSource<T> source;
    private final Announcer<T> announcer;
    private final HashMap<String, Long> moved;
    private final String clientIdPrefix;

    /** What stands for a partition that is read from now on; null where nobody needs that. */
    interface Announcer<T> extends Serializable {
        T announcement(String topic, int partition);
    }

    /** {@code moved} has offsets to begin at by {@code TOPIC:PARTITION:OFFSET} of a snapshot; the prefix is of consumers. */
    AnnouncingSource(
            KafkaSource<T> source, Announcer<T> announcer, Map<String, String> moved, String clientIdPrefix) {
        this.clientIdPrefix = clientIdPrefix;
        this.source = source;
        this.announcer = announcer;
        this.moved = new HashMap<>();
        moved.forEach((place, offset) -> this.moved.put(place, Long.valueOf(offset)));
    }

    @Override
    public Boundedness getBoundedness() {
        return source.getBoundedness();
    }

    @Override
    public SourceReader<T, KafkaPartitionSplit> createReader(SourceReaderContext context) throws Exception {
        String clientId = clientIdPrefix + "-" + context.getIndexOfSubtask();
        return new Reader<>(source.createReader(context), announcer, moved, Reading.begin(clientId));
    }

    @Override
    public SplitEnumerator<KafkaPartitionSplit, KafkaSourceEnumState> createEnumerator(
            SplitEnumeratorContext<KafkaPartitionSplit> context) throws Exception {
        return source.createEnumerator(context);
    }

    @Override
    public SplitEnumerator<KafkaPartitionSplit, KafkaSourceEnumState> restoreEnumerator(
            SplitEnumeratorContext<KafkaPartitionSplit> context, KafkaSourceEnumState state) throws Exception {
        return source.restoreEnumerator(context, state);
    }

    @Override
    public SimpleVersionedSerializer<KafkaPartitionSplit> getSplitSerializer() {
        return source.getSplitSerializer();
    }

    @Override
    public SimpleVersionedSerializer<KafkaSourceEnumState> getEnumeratorCheckpointSerializer() {
        return source.getEnumeratorCheckpointSerializer();
    }

    @Override
    public TypeInformation<T> getProducedType() {
        return source.getProducedType();
    }

    @Override
    public LineageVertex getLineageVertex() {
        return source.getLineageVertex();
    }

    /** Announces partitions, and leaves all else to the reader of Kafka's source. */
    @SuppressWarnings("try") // Its close() throws what that reader's throws.
    static final class Reader<T> implements SourceReader<T, KafkaPartitionSplit> {

        private final SourceReader<T, KafkaPartitionSplit> reader;
        private final Announcer<T> announcer;
        private final Map<String, Long> moved;
        private final Reading reading;
        private final Queue<T> announcements = new ArrayDeque<>();

        /** What Flink waits for while neither records nor announcements are there. */
        private CompletableFuture<Void> available = CompletableFuture.completedFuture(null);

        Reader(
                SourceReader<T, KafkaPartitionSplit> reader,
                Announcer<T> announcer,
                Map<String, Long> moved,
                Reading reading) {
            this.reading = reading;
            this.reader = reader;
            this.announcer = announcer;
            this.moved = moved;
        }

        @Override
        public void start() {
            reader.start();
        }

        @Override
        public InputStatus pollNext(ReaderOutput<T> output) throws Exception {
            T announcement = announcements.poll();
            if (announcement == null) {
                return reader.pollNext(output);
            }
            output.collect(announcement);
            return InputStatus.MORE_AVAILABLE;
        }

        @Override
        public void addSplits(List<KafkaPartitionSplit> splits) {
            List<KafkaPartitionSplit> all = new ArrayList<>(splits.size());
            for (KafkaPartitionSplit split : splits) {
                if (announcer != null) {
                    announcements.add(announcer.announcement(split.getTopic(), split.getPartition()));
                }
                split.getStoppingOffset()
                        .filter(offset -> offset >= 0 && offset != MOVED)
                        .ifPresent(offset -> reading.stopAt(split.getTopicPartition(), offset));
                all.add(moved(split));
            }
            reader.addSplits(all);
            available.complete(null);
        }

        private KafkaPartitionSplit moved(KafkaPartitionSplit split) {
            long offset = split.getStartingOffset();
            Long to = moved.get(split.getTopic() + ":" + split.getPartition() + ":" + offset);
            if (to != null && split.getStoppingOffset().orElse(0L) != MOVED) {
                return new KafkaPartitionSplit(split.getTopicPartition(), to, MOVED);
            }
            // Of a partition that came later. Kafka's consumer would pass over what is deleted by then.
            return offset == KafkaPartitionSplit.EARLIEST_OFFSET
                    ? new KafkaPartitionSplit(
                            split.getTopicPartition(),
                            0,
                            split.getStoppingOffset().orElse(KafkaPartitionSplit.NO_STOPPING_OFFSET))
                    : split;
        }

        @Override
        public CompletableFuture<Void> isAvailable() {
            if (!announcements.isEmpty()) {
                return CompletableFuture.completedFuture(null);
            }
            CompletableFuture<Void> records = reader.isAvailable();
            if (records.isDone()) {
                return records;
            }
            // The same one until it is done: whoever waits has the first that was asked for.
            if (available.isDone()) {
                available = new CompletableFuture<>();
            }
            CompletableFuture<Void> either = available;
            // An error is found by the next poll.
            records.whenComplete((nothing, error) -> either.complete(null));
            return either;
        }

        @Override
        public List<KafkaPartitionSplit> snapshotState(long checkpoint) {
            return reader.snapshotState(checkpoint);
        }

        @Override
        public void notifyCheckpointComplete(long checkpoint) throws Exception {
            reader.notifyCheckpointComplete(checkpoint);
        }

        @Override
        public void notifyCheckpointAborted(long checkpoint) throws Exception {
            reader.notifyCheckpointAborted(checkpoint);
        }

        @Override
        public void notifyNoMoreSplits() {
            reader.notifyNoMoreSplits();
        }

        @Override
        public void handleSourceEvents(SourceEvent event) {
            reader.handleSourceEvents(event);
        }

        @Override
        public void pauseOrResumeSplits(Collection<String> toPause, Collection<String> toResume) {
            reader.pauseOrResumeSplits(toPause, toResume);
        }

        @Override
        public void close() throws Exception {
            // First, since the consumer's thread may wait there.
            reading.close();
            reader.close();
        }
    }
}
