package surecount;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static surecount.Testing.bytes;
import static surecount.Testing.side;
import static surecount.Testing.text;
import static surecount.Testing.utf8;

import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Random;
import org.apache.flink.streaming.api.operators.ProcessOperator;
import org.apache.flink.types.Row;
import org.junit.jupiter.api.Test;

class CopiesTest {

    private record One(long ms, byte[] key, byte[] value, List<byte[]> headers, long[] numbers) {}

    private static final List<String> SHARED = Arrays.asList("surecount.pathway", "ü", "none", null, "", "");
    private static final List<String> COLUMNS = List.of("surecount.partition", "surecount.offset");

    private static byte[] block(List<One> records) {
        List<Object> parts = new ArrayList<>();
        List<Object> contents = new ArrayList<>();
        int own = records.stream().mapToInt(one -> one.headers.size() / 2).sum();
        parts.addAll(List.of("SCCO", 4, records.size(), SHARED.size() / 2, COLUMNS.size(), own));
        SHARED.forEach(text -> put(parts, contents, utf8(text)));
        COLUMNS.forEach(name -> put(parts, contents, utf8(name)));
        records.forEach(one -> parts.add(one.ms));
        for (int column = 0; column < COLUMNS.size(); column++) {
            for (One one : records) {
                parts.add(one.numbers[column]);
            }
        }
        records.forEach(one -> put(parts, contents, one.key));
        records.forEach(one -> put(parts, contents, one.value));
        records.forEach(one -> parts.add(one.headers.size() / 2));
        for (int part = 0; part < 2; part++) {
            for (One one : records) {
                for (int i = part; i < one.headers.size(); i += 2) {
                    put(parts, contents, one.headers.get(i));
                }
            }
        }
        parts.addAll(contents);
        return bytes(parts.toArray());
    }

    private static void put(List<Object> lengths, List<Object> contents, byte[] bytes) {
        lengths.add(bytes == null ? -1 : bytes.length);
        contents.add(bytes == null ? "" : bytes);
    }

    private static List<Object> expected(One one) {
        List<Object> expected = new ArrayList<>(Arrays.asList(one.ms, text(one.key), text(one.value)));
        one.headers.forEach(part -> expected.add(text(part)));
        expected.addAll(SHARED);
        for (int column = 0; column < COLUMNS.size(); column++) {
            expected.add(COLUMNS.get(column));
            expected.add(Long.toString(one.numbers[column]));
        }
        return expected;
    }

    private static One any(Random random) {
        List<byte[]> headers = new ArrayList<>();
        for (int i = random.nextInt(3); i > 0; i--) {
            headers.add(utf8("h".repeat(random.nextInt(3))));
            headers.add(data(random));
        }
        long[] numbers = {random.nextInt(100), random.nextLong()};
        return new One(random.nextLong(), data(random), data(random), headers, numbers);
    }

    private static byte[] data(Random random) {
        return random.nextInt(3) == 0 ? null : utf8("ü".repeat(random.nextInt(20)));
    }

    @Test
    void blocksAreTakenApart() throws Exception {
        long seed = new Random().nextLong();
        Random random = new Random(seed);
        Testing.with(new ProcessOperator<>(new Copies()), harness -> {
            List<List<Object>> clean = new ArrayList<>();
            List<List<Object>> duplicates = new ArrayList<>();
            for (int i = 0; i < 100; i++) {
                List<One> records = new ArrayList<>();
                for (int count = random.nextInt(20); count > 0; count--) {
                    records.add(any(random));
                }
                int kind = random.nextInt(2);
                records.forEach(one -> (kind == Copies.CLEAN ? clean : duplicates).add(expected(one)));
                harness.processElement(Row.of(kind, block(records)), 0);
            }
            List<List<Object>> found =
                    harness.extractOutputValues().stream().map(Testing::shown).toList();
            assertEquals(clean, found, "seed " + seed);
            assertEquals(duplicates, side(harness, Outgoing.DUPLICATES), "seed " + seed);
        });
    }

    @Test
    void rejectedRecordsGoToTheSide() throws Exception {
        Testing.with(new ProcessOperator<>(new Copies()), harness -> {
            byte[] block = bytes("SCRJ", 4, 1, -1, 0, 0, 2, 1, "k", 1, "v");
            harness.processElement(Row.of(Copies.REJECTS, block), 0);
            assertEquals(List.of(Arrays.asList(null, "k", "v")), side(harness, Outgoing.REJECTS));
            byte[] elsewhere = bytes("SCRJ", 4, 1, 0, 0, 0, 2, -1, -1);
            assertThrows(
                    IllegalStateException.class, () -> harness.processElement(Row.of(Copies.REJECTS, elsewhere), 0));
        });
    }

    @Test
    void otherBlocksAreRefused() throws Exception {
        Testing.with(new ProcessOperator<>(new Copies()), harness -> {
            for (byte[] block : List.of(
                    bytes("SCCO", 3, 0, 0, 0, 0), bytes("SCRJ", 4, 0, 0, 0, 0), bytes("SCCO", 4, 0, 0, 0, 0, "x"))) {
                assertThrows(IllegalStateException.class, () -> harness.processElement(Row.of(0, block), 0));
            }
            assertThrows(IllegalStateException.class, () -> harness.processElement(Row.of(3, new byte[0]), 0));
        });
    }

    @Test
    void numbersAreDecimal() {
        long[] numbers = {0, 9, 10, 99, 100, -1, -10, Long.MAX_VALUE, Long.MIN_VALUE, Long.MIN_VALUE + 1};
        for (long number : numbers) {
            assertEquals(Long.toString(number), text(Copies.decimal(number)));
        }
    }
}
