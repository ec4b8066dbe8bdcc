package surecount;

import java.lang.invoke.MethodHandles;
import java.lang.invoke.VarHandle;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import java.util.Arrays;

/**
 * Leaves out of a JSON object the members that no field of the pipeline is in.
 *
 * <p>The rest stays byte for byte, in its order, so a reader finds the same in the fields that it looks into. It would
 * not find errors in the others, so a value is projected only where all of it is valid JSON beyond doubt: without
 * {@code \}{@code u}, without escapes in names, and not nested deeply. Others stay whole.
 */
final class Projection {

    /** To project a shorter value costs more than it saves. */
    private static final int SHORTEST = 256;

    private static final int MOST_LEVELS = 64;

    private static final VarHandle WORDS =
            MethodHandles.byteArrayViewVarHandle(long[].class, ByteOrder.LITTLE_ENDIAN);
    private static final long ONES = 0x0101010101010101L;
    private static final long HIGH_BITS = 0x80 * ONES;
    private static final long QUOTES = '"' * ONES;
    private static final long BACKSLASHES = '\\' * ONES;
    private static final long BLANKS = ' ' * ONES;

    private final byte[][] names;

    /** What is kept of the value goes here, behind what was there {@code before}. */
    private byte[] kept;

    private int before;
    private int length;

    private byte[] value;
    private int at;
    private boolean escaped;

    /** Keeps members of these names, which have quotes between them. */
    Projection(String names) {
        this.names = Arrays.stream(names.split("\""))
                .map(name -> name.getBytes(StandardCharsets.UTF_8))
                .toArray(byte[][]::new);
    }

    /** Adds what is left of a value; false where it is short or not to be projected, and nothing is added. */
    boolean project(byte[] value, Bytes to) {
        if (value.length < SHORTEST) {
            return false;
        }
        kept = to.room(value.length);
        before = to.length();
        length = before;
        this.value = value;
        at = 0;
        if (!document()) {
            return false;
        }
        to.setLength(length);
        return true;
    }

    private boolean document() {
        blanks();
        if (!take('{')) {
            return false;
        }
        kept[length++] = '{';
        blanks();
        if (!take('}') && !members()) {
            return false;
        }
        kept[length++] = '}';
        blanks();
        return at == value.length;
    }

    /** Of the outermost object, up to its end. */
    private boolean members() {
        do {
            blanks();
            int first = at;
            if (!name()) {
                return false;
            }
            boolean isWanted = isWanted(first + 1, at - 1);
            if (!colon() || !any(1)) {
                return false;
            }
            if (isWanted) {
                if (length > before + 1) {
                    kept[length++] = ',';
                }
                System.arraycopy(value, first, kept, length, at - first);
                length += at - first;
            }
            blanks();
        } while (take(','));
        return take('}');
    }

    private boolean isWanted(int first, int last) {
        for (byte[] name : names) {
            if (Arrays.equals(name, 0, name.length, value, first, last)) {
                return true;
            }
        }
        return false;
    }

    private boolean any(int level) {
        switch (next()) {
            case '"':
                return string();
            case '{':
                return items(true, '}', level + 1);
            case '[':
                return items(false, ']', level + 1);
            case 't':
                return word("true");
            case 'f':
                return word("false");
            case 'n':
                return word("null");
            default:
                return number();
        }
    }

    /** What stands in an object, where each has a name, or in a list, up to its end. */
    private boolean items(boolean areNamed, char end, int level) {
        if (level > MOST_LEVELS) {
            return false;
        }
        at++;
        blanks();
        if (take(end)) {
            return true;
        }
        do {
            blanks();
            if (areNamed && !(name() && colon()) || !any(level)) {
                return false;
            }
            blanks();
        } while (take(','));
        return take(end);
    }

    private boolean name() {
        escaped = false;
        return next() == '"' && string() && !escaped;
    }

    private boolean colon() {
        blanks();
        if (!take(':')) {
            return false;
        }
        blanks();
        return true;
    }

    private boolean string() {
        at++;
        while (true) {
            skipPlain();
            int found = next();
            if (found == '"') {
                at++;
                return true;
            }
            if (!(found == '\\' ? escape() : found < 0 && character())) {
                return false;
            }
        }
    }

    private boolean escape() {
        if (at + 1 == value.length || "\"\\/bfnrt".indexOf(value[at + 1]) < 0) {
            return false;
        }
        escaped = true;
        at += 2;
        return true;
    }

    /** A character of UTF-8 that is not ASCII; Unicode's table 3-7 says which bytes it may have. */
    private boolean character() {
        int lead = at < value.length ? value[at] & 0xFF : 0;
        int further = lead < 0xC2 || lead > 0xF4 ? 0 : lead < 0xE0 ? 1 : lead < 0xF0 ? 2 : 3;
        if (further == 0 || at + further >= value.length) {
            return false;
        }
        int low = lead == 0xE0 ? 0xA0 : lead == 0xF0 ? 0x90 : 0x80;
        int high = lead == 0xED ? 0x9F : lead == 0xF4 ? 0x8F : 0xBF;
        for (int i = 1; i <= further; i++) {
            int found = value[at + i] & 0xFF;
            if (found < low || found > high) {
                return false;
            }
            low = 0x80;
            high = 0xBF;
        }
        at += 1 + further;
        return true;
    }

    /** On to the next quote, backslash, control character or byte that is not ASCII. */
    private void skipPlain() {
        byte[] bytes = value;
        int found = at;
        for (; found + Long.BYTES <= bytes.length; found += Long.BYTES) {
            long word = (long) WORDS.get(bytes, found);
            // Of ASCII, a byte's high bit is set by what it is less than. The lowest one is right, higher ones may be by
            // a borrow.
            long odd = (word | (word ^ QUOTES) - ONES | (word ^ BACKSLASHES) - ONES | word - BLANKS) & HIGH_BITS;
            if (odd != 0) {
                at = found + Long.numberOfTrailingZeros(odd) / Byte.SIZE;
                return;
            }
        }
        while (found < bytes.length && bytes[found] >= ' ' && bytes[found] != '"' && bytes[found] != '\\') {
            found++;
        }
        at = found;
    }

    private boolean number() {
        take('-');
        if (!take('0') && !digits()) {
            return false;
        }
        if (take('.') && !digits()) {
            return false;
        }
        if (take('e') || take('E')) {
            if (!take('+')) {
                take('-');
            }
            return digits();
        }
        return true;
    }

    private boolean digits() {
        int first = at;
        while (next() >= '0' && next() <= '9') {
            at++;
        }
        return at > first;
    }

    private boolean word(String word) {
        for (int i = 0; i < word.length(); i++) {
            if (!take(word.charAt(i))) {
                return false;
            }
        }
        return true;
    }

    private void blanks() {
        while (next() == ' ' || next() == '\n' || next() == '\r' || next() == '\t') {
            at++;
        }
    }

    private boolean take(char wanted) {
        boolean isThere = next() == wanted;
        if (isThere) {
            at++;
        }
        return isThere;
    }

    /** The byte to be read next, or -1 at the end. */
    private int next() {
        return at < value.length ? value[at] : -1;
    }
}
