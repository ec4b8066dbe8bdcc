package surecount;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static surecount.Testing.utf8;

import java.util.ArrayList;
import java.util.Collection;
import java.util.List;
import java.util.Map;
import java.util.concurrent.CompletableFuture;
import org.apache.flink.api.common.eventtime.Watermark;
import org.apache.flink.api.connector.source.ReaderOutput;
import org.apache.flink.api.connector.source.SourceEvent;
import org.apache.flink.api.connector.source.SourceOutput;
import org.apache.flink.api.connector.source.SourceReader;
import org.apache.flink.connector.kafka.source.split.KafkaPartitionSplit;
import org.apache.flink.core.io.InputStatus;
import org.apache.flink.kafka.shaded.org.apache.kafka.common.TopicPartition;
import org.junit.jupiter.api.Test;

class AnnouncingSourceTest {

    private final List<String> out = new ArrayList<>();
    private final List<String> calls = new ArrayList<>();
    private final FakeReader fake = new FakeReader();
    private final Reading reading = Reading.begin("announcing-0");
    private final PackSchema schema = new PackSchema(List.of("a", "b"));
    private final AnnouncingSource.Reader<byte[]> reader =
            new AnnouncingSource.Reader<>(fake, schema::announcement, Map.of("a:5:100", 700L, "b:1:-2", 50L), reading);

    private static KafkaPartitionSplit split(String topic, int partition) {
        return new KafkaPartitionSplit(new TopicPartition(topic, partition), 0);
    }

    private InputStatus poll() throws Exception {
        return reader.pollNext(new Output());
    }

    @Test
    void partitionsAreAnnouncedBeforeRecords() throws Exception {
        reader.addSplits(List.of(split("b", 3), split("a", 0)));
        reader.start();
        fake.records.add("r1");
        assertEquals(InputStatus.MORE_AVAILABLE, poll());
        assertEquals(InputStatus.MORE_AVAILABLE, poll());
        assertEquals(InputStatus.NOTHING_AVAILABLE, poll());
        fake.records.add("r2");
        reader.addSplits(List.of(split("a", 1)));
        poll();
        poll();
        assertEquals(List.of("1-3", "0-0", "r1", "0-1", "r2"), out);
        assertEquals(List.of("add b-3 a-0", "start", "add a-1"), calls);
    }

    @Test
    void anOffsetThatIsGoneIsMovedOnce() {
        TopicPartition partition = new TopicPartition("a", 5);
        reader.addSplits(List.of(new KafkaPartitionSplit(partition, 100)));
        reader.addSplits(List.of(new KafkaPartitionSplit(partition, 100, AnnouncingSource.MOVED)));
        reader.addSplits(List.of(new KafkaPartitionSplit(partition, 99)));
        reader.addSplits(List.of(new KafkaPartitionSplit(new TopicPartition("a", 4), 100)));
        assertEquals(List.of(700L, 100L, 99L, 100L), fake.offsets);
        assertEquals(AnnouncingSource.MOVED, fake.first.getStoppingOffset().orElseThrow());
        assertEquals(Reading.NO_STOP, reading.stop(partition));
    }

    @Test
    void aPartitionThatCameLaterBeginsAtNothingThatIsGone() {
        TopicPartition partition = new TopicPartition("a", 5);
        reader.addSplits(List.of(new KafkaPartitionSplit(partition, KafkaPartitionSplit.EARLIEST_OFFSET)));
        reader.addSplits(List.of(new KafkaPartitionSplit(
                new TopicPartition("b", 1), KafkaPartitionSplit.EARLIEST_OFFSET)));
        assertEquals(List.of(0L, 50L), fake.offsets);
    }

    @Test
    void theConsumerIsToldWhereABoundedSourceStops() throws Exception {
        TopicPartition partition = new TopicPartition("a", 1);
        reader.addSplits(List.of(new KafkaPartitionSplit(partition, 7, 900), split("b", 1)));
        assertEquals(900, Reading.of("announcing-0").stop(partition));
        assertEquals(Reading.NO_STOP, Reading.of("announcing-0").stop(new TopicPartition("b", 1)));
        reader.close();
        assertThrows(IllegalStateException.class, () -> Reading.of("announcing-0"));
    }

    @Test
    void theEndWaitsForAnnouncements() throws Exception {
        fake.isEnded = true;
        reader.addSplits(List.of(split("a", 1)));
        assertEquals(InputStatus.MORE_AVAILABLE, poll());
        assertEquals(InputStatus.END_OF_INPUT, poll());
    }

    @Test
    void anAnnouncementIsAvailableAtOnce() throws Exception {
        CompletableFuture<Void> before = reader.isAvailable();
        assertFalse(before.isDone());
        // Flink asks more than once, and waits for the first.
        reader.isAvailable();
        reader.addSplits(List.of(split("a", 1)));
        assertTrue(before.isDone());
        assertTrue(reader.isAvailable().isDone());
        poll();
        CompletableFuture<Void> after = reader.isAvailable();
        assertFalse(after.isDone());
        fake.available.complete(null);
        assertTrue(after.isDone());
        assertTrue(reader.isAvailable().isDone());
    }

    @Test
    void anErrorWakesThePoll() {
        CompletableFuture<Void> waiting = reader.isAvailable();
        fake.available.completeExceptionally(new IllegalStateException());
        assertTrue(waiting.isDone() && !waiting.isCompletedExceptionally());
    }

    @Test
    void aSplitOfATopicThatIsNotReadIsRefused() {
        assertThrows(IllegalStateException.class, () -> reader.addSplits(List.of(split("old", 0))));
    }

    @Test
    void theRestIsTheReaders() throws Exception {
        assertEquals(List.of(split("a", 7)), reader.snapshotState(4));
        reader.notifyCheckpointComplete(4);
        reader.notifyCheckpointAborted(5);
        reader.notifyNoMoreSplits();
        reader.handleSourceEvents(new SourceEvent() {
            private static final long serialVersionUID = 1L;
        });
        reader.pauseOrResumeSplits(List.of("a-0"), List.of("a-1"));
        reader.close();
        assertEquals(
                List.of("snapshot 4", "complete 4", "aborted 5", "no more", "event", "pause [a-0] [a-1]", "close"),
                calls);
    }

    /** Shows packs of no record as topic and partition. */
    private final class Output implements ReaderOutput<byte[]> {
        @Override
        public void collect(byte[] bytes) {
            if (Pack.fault(bytes) == null) {
                ReadPack pack = ReadPack.of(bytes);
                assertEquals(List.of(), pack.records());
                out.add(pack.topic() + "-" + pack.partition());
            } else {
                out.add(Testing.text(bytes));
            }
        }

        @Override
        public void collect(byte[] bytes, long timestamp) {
            collect(bytes);
        }

        @Override
        public void emitWatermark(Watermark watermark) {}

        @Override
        public void markIdle() {}

        @Override
        public void markActive() {}

        @Override
        public SourceOutput<byte[]> createOutputForSplit(String split) {
            return this;
        }

        @Override
        public void releaseOutputForSplit(String split) {}
    }

    @SuppressWarnings("try")
    private final class FakeReader implements SourceReader<byte[], KafkaPartitionSplit> {
        private final List<Long> offsets = new ArrayList<>();
        private KafkaPartitionSplit first;
        private final List<String> records = new ArrayList<>();
        private final CompletableFuture<Void> available = new CompletableFuture<>();
        private boolean isEnded;

        @Override
        public void start() {
            calls.add("start");
        }

        @Override
        public InputStatus pollNext(ReaderOutput<byte[]> output) {
            records.forEach(record -> output.collect(utf8(record)));
            records.clear();
            return isEnded ? InputStatus.END_OF_INPUT : InputStatus.NOTHING_AVAILABLE;
        }

        @Override
        public List<KafkaPartitionSplit> snapshotState(long checkpoint) {
            calls.add("snapshot " + checkpoint);
            return List.of(split("a", 7));
        }

        @Override
        public CompletableFuture<Void> isAvailable() {
            return available;
        }

        @Override
        public void addSplits(List<KafkaPartitionSplit> splits) {
            first = first == null ? splits.get(0) : first;
            splits.forEach(split -> offsets.add(split.getStartingOffset()));
            calls.add("add " + String.join(" ", splits.stream().map(KafkaPartitionSplit::splitId).toList()));
        }

        @Override
        public void notifyCheckpointComplete(long checkpoint) {
            calls.add("complete " + checkpoint);
        }

        @Override
        public void notifyCheckpointAborted(long checkpoint) {
            calls.add("aborted " + checkpoint);
        }

        @Override
        public void notifyNoMoreSplits() {
            calls.add("no more");
        }

        @Override
        public void handleSourceEvents(SourceEvent event) {
            calls.add("event");
        }

        @Override
        public void pauseOrResumeSplits(Collection<String> toPause, Collection<String> toResume) {
            calls.add("pause " + toPause + " " + toResume);
        }

        @Override
        public void close() {
            calls.add("close");
        }
    }
}
