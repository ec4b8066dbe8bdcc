package surecount;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static surecount.Testing.utf8;

import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.util.Random;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

class ProjectionTest {

    private static final String PAD = "\"pad\":\"" + "x".repeat(300) + "\",";

    private final Projection projection = new Projection("ts\"amount\"Größe");
    private final Bytes to = new Bytes();

    /** What is left of a value with a long member before {@code x}; null where it is not projected. */
    private String left(String json) {
        return left(utf8(json.replaceFirst("\"x\"", PAD + "\"x\"")));
    }

    private String left(byte[] value) {
        int before = to.length();
        if (!projection.project(value, to)) {
            assertEquals(before, to.length());
            return null;
        }
        ByteBuffer found = Pack.buffer(to.length() - before);
        to.copyTo(found, before, to.length() - before);
        return Testing.text(found.array());
    }

    @Test
    void membersOfOtherNamesAreLeftOut() {
        assertEquals("{\"ts\":1,\"amount\":-2.5e3}", left("{\"ts\":1,\"x\":{\"ts\":[1,{\"a\":null}]},\"amount\":-2.5e3}"));
        assertEquals("{\"ts\" :\t[ 1, true ]}", left(" { \"x\" : [ ] , \"ts\" :\t[ 1, true ] } \n"));
        assertEquals("{\"ts\":1,\"ts\":2,\"Größe\":\"ü\"}", left("{\"ts\":1,\"ts\":2,\"x\":\"ü€😀\",\"Größe\":\"ü\"}"));
        assertEquals("{}", left("{\"x\":1}"));
        assertEquals("{}", left("{\"x\":%s}".formatted("[".repeat(63) + "]".repeat(63))));
    }

    @ParameterizedTest
    @ValueSource(
            strings = {
                "{\"x\":\"\\u0031\"}", "{\"x\\n\":1,\"x\":1}", "{\"x\":\"a\nb\"}", "{\"x\":NaN}", "{\"x\":01}", "{\"x\":1.}",
                "{\"x\":-}", "{\"x\":+1}", "{\"x\":1e}", "{\"x\":tru}", "{\"x\":[1,]}", "{\"x\":[1}]", "{\"x\":{1:1}}",
                "{\"x\":\"a}", "{\"x\":\"\\q\"}", "{\"x\":1,}", "{\"x\" 1}", "{\"x\":}", "{\"x\":1}{", "{\"x\":1} 1",
                "[\"x\"]", "\"x\""
            })
    void whatIsNoPlainJsonStaysWhole(String json) {
        assertEquals(null, left(json));
    }

    @Test
    void whatIsNestedDeeplyOrShortStaysWhole() {
        assertEquals(null, left("{\"x\":%s}".formatted("[".repeat(64) + "]".repeat(64))));
        assertFalse(projection.project(utf8("{\"y\":1}"), to));
        assertFalse(projection.project(new byte[0], to));
    }

    @Test
    void whatIsNoUtf8StaysWhole() {
        for (String bytes : new String[] {"\u00c3", "\u00ed\u00a0\u0080", "\u00c0\u0080", "\u00f5\u0080\u0080\u0080"}) {
            byte[] value = ("{" + PAD + "\"x\":\"" + bytes + "\"}").getBytes(StandardCharsets.ISO_8859_1);
            assertEquals(null, left(value));
        }
    }

    @Test
    void leftsStandOneBehindTheOther() {
        long seed = new Random().nextLong();
        Random random = new Random(seed);
        StringBuilder expected = new StringBuilder();
        for (int i = 0; i < 2000; i++) {
            String kept = random.nextBoolean() ? "\"ts\":" + random.nextInt() : "\"amount\":\"" + random.nextInt() + "\"";
            String pad = "\"other\":\"" + "y".repeat(256 + random.nextInt(2000)) + "\"";
            boolean isFirst = random.nextBoolean();
            String value = "{" + (isFirst ? kept + "," + pad : pad + ", " + kept) + "}";
            assertTrue(projection.project(utf8(value), to), "seed " + seed);
            expected.append('{').append(kept).append('}');
        }
        ByteBuffer found = Pack.buffer(to.length());
        to.copyTo(found);
        assertEquals(expected.toString(), Testing.text(found.array()), "seed " + seed);
    }
}
