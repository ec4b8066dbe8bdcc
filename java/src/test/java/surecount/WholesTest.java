package surecount;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static surecount.Testing.text;
import static surecount.Testing.utf8;

import org.junit.jupiter.api.Test;

class WholesTest {

    private final Packer packer = new Packer(null, 2);

    private byte[] pack(String... values) {
        byte[][] of = new byte[values.length][];
        for (int i = 0; i < values.length; i++) {
            of[i] = utf8(values[i]);
        }
        return Testing.pack(packer, of);
    }

    @Test
    void aValueIsFoundUntilItsBatchOrALaterOneIsDropped() {
        Wholes wholes = new Wholes();
        wholes.put(3, new byte[][] {pack("a"), pack("abc", "xyz")});
        wholes.put(5, new byte[][] {pack("later")});
        assertEquals("xyz", text(wholes.value(3, 1, 3, 3)));
        assertEquals("", text(wholes.value(3, 1, 6, 0)));
        assertEquals("ate", text(wholes.value(5, 0, 1, 3)));
        wholes.drop(2);
        assertEquals("abc", text(wholes.value(3, 1, 0, 3)));
        wholes.drop(4);
        assertThrows(IllegalStateException.class, () -> wholes.value(3, 1, 0, 3));
        assertEquals("later", text(wholes.value(5, 0, 0, 5)));
        wholes.drop(5);
        assertThrows(IllegalStateException.class, () -> wholes.value(5, 0, 0, 5));
    }

    @Test
    void numbersWrap() {
        Wholes wholes = new Wholes();
        wholes.put(Integer.MAX_VALUE, new byte[][] {pack("abc")});
        wholes.put(Integer.MIN_VALUE, new byte[][] {pack("def")});
        wholes.drop(Integer.MAX_VALUE);
        assertThrows(IllegalStateException.class, () -> wholes.value(Integer.MAX_VALUE, 0, 0, 1));
        assertEquals("def", text(wholes.value(Integer.MIN_VALUE, 0, 0, 3)));
    }
}
