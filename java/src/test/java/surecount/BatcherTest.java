package surecount;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static surecount.Testing.sent;
import static surecount.Testing.text;
import static surecount.Testing.utf8;

import java.nio.ByteBuffer;
import java.util.ArrayList;
import java.util.List;
import java.util.Random;
import org.apache.flink.streaming.api.watermark.Watermark;
import org.apache.flink.streaming.runtime.streamrecord.StreamRecord;
import org.apache.flink.streaming.runtime.watermarkstatus.WatermarkStatus;
import org.apache.flink.streaming.util.OneInputStreamOperatorTestHarness;
import org.junit.jupiter.api.Test;

class BatcherTest {

    private static final int MANY = 1_000_000;

    private final Packer packer = new Packer(null, 5_000);

    /** A batch, read the plain way: the packs in it without their whole values. */
    private record Read(int number, List<byte[]> packs) {

        static Read of(byte[] batch) {
            ByteBuffer from = Pack.view(batch);
            assertEquals(Batcher.MAGIC, from.getInt());
            assertEquals(4, from.getInt());
            int count = from.getInt();
            int number = from.getInt();
            int[] topics = new int[count];
            int[] partitions = new int[count];
            for (int i = 0; i < count; i++) {
                topics[i] = from.getInt();
            }
            for (int i = 0; i < count; i++) {
                partitions[i] = from.getInt();
            }
            int[][] bounds = new int[5][count + 1];
            for (int[] of : bounds) {
                for (int i = 0; i <= count; i++) {
                    of[i] = from.getInt();
                }
                assertEquals(0, of[0]);
            }
            int at = from.position();
            List<List<Object>> packs = new ArrayList<>();
            for (int i = 0; i < count; i++) {
                int records = (bounds[0][i + 1] - bounds[0][i]) / Pack.ENTRY_BYTES;
                packs.add(new ArrayList<>(List.of(Pack.MAGIC, 4, topics[i], partitions[i], records)));
                for (int[] of : bounds) {
                    packs.get(i).add(of[i + 1] - of[i]);
                }
                packs.get(i).add(0);
            }
            for (int[] of : bounds) {
                for (int i = 0; i < count; i++) {
                    byte[] part = new byte[of[i + 1] - of[i]];
                    System.arraycopy(batch, at + of[i], part, 0, part.length);
                    packs.get(i).add(part);
                }
                at += of[count];
            }
            assertEquals(batch.length, at);
            return new Read(number, packs.stream().map(parts -> Testing.bytes(parts.toArray())).toList());
        }
    }

    private byte[] pack(int records) {
        if (records == 0) {
            return Pack.announcement(0, 0);
        }
        byte[][] values = new byte[records][];
        for (int i = 0; i < records; i++) {
            values[i] = utf8("value " + i);
        }
        return Testing.pack(packer, values);
    }

    private static List<Integer> records(OneInputStreamOperatorTestHarness<byte[], byte[]> harness) {
        return sent(harness).stream()
                .map(batch -> Read.of((byte[]) batch).packs.stream()
                        .mapToInt(pack -> ReadPack.of(pack).records().size())
                        .sum())
                .toList();
    }

    @Test
    void aBatchHasTheColumnsOfItsPacks() throws Exception {
        Random random = new Random(1);
        List<byte[]> packs = new ArrayList<>();
        for (int i = 0; i < 5; i++) {
            var record = Testing.record(
                    "events", i, i, 7, utf8("key"), utf8("value " + i), "a", utf8("b"), "", null, "ü" + i, new byte[i]);
            var plain = Testing.record("events", i, i + 1, 8, null, Testing.values(3, 10, random)[i % 2]);
            byte[] pack = packer.pack(List.of(record, plain), false).value();
            Pack.view(pack).putInt(Pack.TOPIC_AT, 10 * i);
            packs.add(pack);
            packs.add(Pack.announcement(i, 99));
        }
        Read read = Read.of(Batcher.batch(packs, -3));
        assertEquals(-3, read.number);
        assertEquals(packs.stream().map(ReadPack::of).toList(), read.packs.stream().map(ReadPack::of).toList());
    }

    @Test
    void aBatchEndsAtANumberOfRecords() throws Exception {
        Testing.with(new Batcher(10, MANY, MANY), harness -> {
            for (int records : new int[] {4, 4, 4, 6, 10, 0, 25, 1}) {
                harness.processElement(pack(records), 0);
            }
            assertEquals(List.of(8, 10, 10, 0, 25), records(harness));
            harness.endInput();
            assertEquals(List.of(1), records(harness));
        });
    }

    @Test
    void aBatchEndsAtANumberOfBytes() throws Exception {
        int size = pack(2).length;
        Testing.with(new Batcher(MANY, 3 * size - 1, MANY), harness -> {
            for (int i = 0; i < 5; i++) {
                harness.processElement(pack(2), 0);
            }
            harness.processElement(pack(100), 0);
            assertEquals(List.of(4, 4, 2, 100), records(harness));
        });
    }

    @Test
    void aBatchEndsAfterSomeTime() throws Exception {
        Testing.with(new Batcher(10, MANY, 100), harness -> {
            harness.setProcessingTime(1000);
            harness.processElement(pack(3), 0);
            harness.setProcessingTime(1050);
            harness.processElement(pack(7), 0);
            harness.processElement(pack(2), 0);
            assertEquals(List.of(10), records(harness));
            // The timer of the batch that was full before.
            harness.setProcessingTime(1100);
            assertEquals(List.of(), records(harness));
            harness.setProcessingTime(1149);
            assertEquals(List.of(), records(harness));
            harness.setProcessingTime(1150);
            assertEquals(List.of(2), records(harness));
            harness.setProcessingTime(5000);
            harness.processElement(pack(1), 0);
            harness.setProcessingTime(5100);
            assertEquals(List.of(1), records(harness));
            assertEquals(0, harness.getProcessingTimeService().getNumActiveTimers());
        });
    }

    @Test
    void aBatchEndsBeforeABarrierAndTheyAreNumbered() throws Exception {
        Testing.with(new Batcher(MANY, MANY, MANY), harness -> {
            List<Integer> numbers = new ArrayList<>();
            for (int i = 0; i < 3; i++) {
                harness.processElement(pack(1), 0);
                harness.prepareSnapshotPreBarrier(i);
                harness.prepareSnapshotPreBarrier(i);
                sent(harness).forEach(batch -> numbers.add(Read.of((byte[]) batch).number));
            }
            assertEquals(List.of(0, 1, 2), numbers);
        });
    }

    @Test
    void noWatermarkPassesButTheLast() throws Exception {
        Testing.with(new Batcher(MANY, MANY, MANY), harness -> {
            harness.processElement(pack(1), 0);
            harness.processWatermark(5);
            harness.processWatermarkStatus(WatermarkStatus.IDLE);
            assertEquals(List.of(), sent(harness));
            harness.processWatermark(Long.MAX_VALUE);
            List<Object> sent = sent(harness);
            assertEquals(2, sent.size());
            assertEquals(Watermark.MAX_WATERMARK, sent.get(1));
        });
    }

    @Test
    void wholeValuesCountAQuarter() throws Exception {
        byte[] pack = Testing.pack(packer, new byte[6_000]);
        Testing.with(new Batcher(MANY, 2 * (pack.length - 4_500), MANY), harness -> {
            for (int i = 0; i < 5; i++) {
                harness.processElement(pack, 0);
            }
            assertEquals(List.of(2, 2), records(harness));
        });
    }

    @Test
    void wholeValuesStay() throws Exception {
        byte[] large = new byte[6_000];
        large[5_999] = 'z';
        Testing.with(new Batcher(2, MANY, MANY), harness -> {
            harness.processElement(pack(2), 0);
            harness.processElement(pack(1), 0);
            harness.processElement(Testing.pack(packer, utf8("abc"), large), 0);
            harness.endInput();
            List<Object> batches = sent(harness);
            assertEquals(3, batches.size());
            assertEquals(
                    List.of("abc", ""),
                    ReadPack.of(Read.of((byte[]) batches.get(2)).packs.get(0)).records().stream()
                            .map(ReadPack.One::value)
                            .toList());
            Wholes wholes = Wholes.of(harness.getOperator().getContainingTask());
            assertEquals("abc", text(wholes.value(2, 0, 0, 3)));
            assertEquals(text(large), text(wholes.value(2, 0, 3, 6_000)));
            assertThrows(IllegalStateException.class, () -> wholes.value(1, 0, 0, 1));
        });
    }

    /** Whether the task waits for Python after each batch. */
    private static List<Boolean> waits(OneInputStreamOperatorTestHarness<byte[], byte[]> harness) {
        List<Boolean> waits = new ArrayList<>();
        for (Object batch : harness.getOutput()) {
            waits.add(((StreamRecord<?>) batch).getTimestamp() == Batcher.LAST);
        }
        harness.getOutput().clear();
        return waits;
    }

    @Test
    void theTaskWaitsForABatchThatIsNotFull() throws Exception {
        Testing.with(new Batcher(10, MANY, 100), harness -> {
            for (int records : new int[] {10, 6, 6, 1}) {
                harness.processElement(pack(records), 0);
            }
            assertEquals(List.of(false, false), waits(harness));
            harness.setProcessingTime(100);
            assertEquals(List.of(true), waits(harness));
            harness.processElement(pack(1), 0);
            harness.prepareSnapshotPreBarrier(1);
            assertEquals(List.of(true), waits(harness));
            harness.processElement(pack(1), 0);
            harness.endInput();
            assertEquals(List.of(true), waits(harness));
        });
    }

    @Test
    void theTaskWaitsWhereEnoughBytesAreOnTheirWay() throws Exception {
        byte[] sent = Testing.pack(new Packer(null, 1 << 30), new byte[16 << 20]);
        byte[] whole = Testing.pack(packer, new byte[60 << 20]);
        Testing.with(new Batcher(1, MANY, MANY), harness -> {
            for (int i = 0; i < 7; i++) {
                harness.processElement(sent, 0);
            }
            assertEquals(List.of(false, false, true, false, false, true, false), waits(harness));
            harness.processElement(pack(0), 0);
            harness.endInput();
            assertEquals(List.of(true), waits(harness));
            for (int i = 0; i < 6; i++) {
                harness.processElement(whole, 0);
            }
            assertEquals(List.of(false, false, true, false, false, true), waits(harness));
        });
    }
}
