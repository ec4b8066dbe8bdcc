package surecount;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static surecount.Testing.utf8;

import java.io.IOException;
import java.util.ArrayList;
import java.util.List;
import org.apache.flink.api.common.functions.util.ListCollector;
import org.junit.jupiter.api.Test;

class PackSchemaTest {

    private final List<byte[]> out = new ArrayList<>();
    private final PackSchema schema = new PackSchema(List.of("events", "others"));

    private void deserialize(String topic, byte[] value) throws IOException {
        schema.deserialize(Testing.record(topic, 7, 12, 0, null, value), new ListCollector<>(out));
    }

    private String refused(byte[] value) {
        return assertThrows(IOException.class, () -> deserialize("events", value)).getMessage();
    }

    @Test
    void aPackGetsTheNumberOfItsTopic() throws IOException {
        byte[] pack = Testing.pack(new Packer(null, 100), utf8("a"));
        deserialize("others", pack);
        deserialize("events", Pack.announcement(5, 7));
        assertEquals(List.of(1, 0), out.stream().map(one -> ReadPack.of(one).topic()).toList());
        assertEquals("a", ReadPack.of(out.get(0)).records().get(0).value());
        assertEquals(7, ReadPack.of(out.get(1)).partition());
    }

    @Test
    void whatIsNoPackIsRefusedWithWhatItIs() {
        String message = refused(utf8("{\"a\":1}" + " ".repeat(50)));
        assertTrue(message.startsWith("raw records where packs are expected"), message);
        assertTrue(message.endsWith("(events partition 7 offset 12: 57 bytes 7b 22 61 22 3a 31 7d 20)"), message);
        assertTrue(refused(null).endsWith("offset 12: null)"));
        assertTrue(refused(new byte[0]).endsWith("0 bytes)"));
        byte[] other = Pack.announcement(0, 0);
        other[4] = 3;
        assertTrue(refused(other).startsWith("packs of layout 3 where 4 is expected"));
        assertTrue(out.isEmpty());
    }

    @Test
    void anotherTopicIsRefused() {
        assertThrows(IllegalStateException.class, () -> deserialize("old", Pack.announcement(0, 0)));
    }
}
