package surecount;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static surecount.Testing.utf8;

import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import org.apache.flink.api.common.functions.util.ListCollector;
import org.junit.jupiter.api.Test;

class RelaySchemaTest {

    private static List<Object> copy(long ms, byte[] key, byte[] value, Object... headers) {
        List<byte[][]> out = new ArrayList<>();
        new RelaySchema().deserialize(
                Testing.record("ü", 3, 41, ms, key, value, headers), new ListCollector<>(out));
        assertEquals(1, out.size());
        return Testing.shown(out.get(0));
    }

    @Test
    void aRecordIsCopiedWithWhereItIsFrom() {
        long before = System.currentTimeMillis() / 1000;
        List<Object> copy = copy(
                1_700_000_000_000L, utf8("k"), utf8("v"), "a", utf8("1"), "a", null, "surecount.x", utf8("2"));
        long after = System.currentTimeMillis() / 1000;
        assertEquals(
                Arrays.asList(1_700_000_000_000L, "k", "v", "a", "1", "a", null, "producer.surecount.x", "2"),
                copy.subList(0, 9));
        assertEquals(11, copy.size());
        assertEquals("surecount.relayed", copy.get(9));
        String[] origin = ((String) copy.get(10)).split(" ");
        assertEquals(List.of("3", "41", "ü"), List.of(origin[0], origin[1], origin[3]));
        long seconds = Long.parseLong(origin[2]);
        assertTrue(before <= seconds && seconds <= after);
    }

    @Test
    void aTimestampThatIsNoTimeIsZero() {
        for (long ms : new long[] {31_536_000_000L, 253_370_764_799_999L}) {
            assertEquals(ms, copy(ms, null, null).get(0));
        }
        for (long ms : new long[] {31_535_999_999L, 253_370_764_800_000L, -1, 0, Long.MIN_VALUE, Long.MAX_VALUE}) {
            assertEquals(Arrays.asList(0L, null, null), copy(ms, null, null).subList(0, 3));
        }
    }
}
