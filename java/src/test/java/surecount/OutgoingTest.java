package surecount;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static surecount.Testing.bytes;
import static surecount.Testing.utf8;

import java.nio.BufferUnderflowException;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import org.apache.flink.api.common.serialization.SerializerConfigImpl;
import org.apache.flink.api.common.typeutils.TypeSerializer;
import org.apache.flink.core.memory.DataInputDeserializer;
import org.apache.flink.core.memory.DataOutputSerializer;
import org.junit.jupiter.api.Test;

class OutgoingTest {

    private static List<List<Object>> rejects(byte[] block) {
        List<List<Object>> found = new ArrayList<>();
        Outgoing.rejects(
                block, (pack, start, size) -> utf8(pack + "/" + start + "/" + size), one -> found.add(Testing.shown(one)));
        return found;
    }

    @Test
    void aBlockOfRejectedRecordsIsTakenApart() {
        byte[] block = bytes(
                "SCRJ", 4, 3,
                -1, 0, 0, 4, 1, "k", 2, "vv", 1, "h", -1,
                7, 20, 300, 2, -1, -1,
                -1, 0, 0, 6, 0, -1, 1, "a", 0, 1, "a", 1, "b");
        assertEquals(
                List.of(
                        Arrays.asList(null, "k", "vv", "h", null),
                        Arrays.asList(null, null, "7/20/300"),
                        Arrays.asList(null, "", null, "a", "", "a", "b")),
                rejects(block));
        assertEquals(List.of(), rejects(bytes("SCRJ", 4, 0)));
    }

    @Test
    void otherBlocksAreRefused() {
        for (byte[] block : List.of(bytes("SCRJ", 3, 0), bytes("SCCO", 4, 0))) {
            String message = assertThrows(IllegalStateException.class, () -> rejects(block)).getMessage();
            assertTrue(message.contains("job and jar have to be of one version"), message);
        }
        assertThrows(IllegalStateException.class, () -> rejects(bytes("SCRJ", 4, 0, "x")));
        assertThrows(BufferUnderflowException.class, () -> rejects(bytes("SCRJ", 4, 1, -1, 0, 0, 2, 5, "k")));
    }

    @Test
    void partsMayBeNullBetweenTasks() throws Exception {
        TypeSerializer<byte[][]> serializer = Outgoing.TYPE.createSerializer(new SerializerConfigImpl());
        byte[][] record = {null, utf8("k"), null, utf8("h"), null};
        DataOutputSerializer to = new DataOutputSerializer(64);
        serializer.serialize(record, to);
        byte[][] back = serializer.deserialize(new DataInputDeserializer(to.getCopyOfBuffer()));
        assertEquals(Testing.shown(record), Testing.shown(back));
        assertEquals(Testing.shown(record), Testing.shown(serializer.copy(record)));
    }
}
