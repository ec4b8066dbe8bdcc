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

    private final KafkaSource<T> source;
    private final Announcer<T> announcer;
    private final HashMap<String, Long> moved;

    /** What stands for a partition that is read from now on; null where nobody needs that. */
    interface Announcer<T> extends Serializable {
        T announcement(String topic, int partition);
    }

    /** {@code moved} has offsets to begin at by {@code TOPIC:PARTITION:OFFSET} of a snapshot. */
    AnnouncingSource(KafkaSource<T> source, Announcer<T> announcer, Map<String, Long> moved) {
        this.source = source;
        this.announcer = announcer;
        this.moved = new HashMap<>(moved);
    }

    @Override
    public Boundedness getBoundedness() {
        return source.getBoundedness();
    }

    @Override
    public SourceReader<T, KafkaPartitionSplit> createReader(SourceReaderContext context) throws Exception {
        return new Reader<>(source.createReader(context), announcer, moved);
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
        private final Queue<T> announcements = new ArrayDeque<>();

        /** What Flink waits for while neither records nor announcements are there. */
        private CompletableFuture<Void> available = CompletableFuture.completedFuture(null);

        Reader(SourceReader<T, KafkaPartitionSplit> reader, Announcer<T> announcer, Map<String, Long> moved) {
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
                all.add(moved(split));
            }
            reader.addSplits(all);
            available.complete(null);
        }

        private KafkaPartitionSplit moved(KafkaPartitionSplit split) {
            Long offset = moved.get(split.getTopic() + ":" + split.getPartition() + ":" + split.getStartingOffset());
            return offset == null
                    ? split
                    : new KafkaPartitionSplit(
                            split.getTopicPartition(),
                            offset,
                            split.getStoppingOffset().orElse(KafkaPartitionSplit.NO_STOPPING_OFFSET));
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
            CompletableFuture<Void> either = new CompletableFuture<>();
            // An error is found by the next poll.
            records.whenComplete((nothing, error) -> either.complete(null));
            available = either;
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
            reader.close();
        }
    }
}
