package surecount;

import org.apache.flink.kafka.shaded.org.apache.kafka.common.header.Header;
import org.apache.flink.kafka.shaded.org.apache.kafka.common.header.Headers;
import org.apache.flink.kafka.shaded.org.apache.kafka.common.header.internals.RecordHeader;
import org.apache.flink.kafka.shaded.org.apache.kafka.common.header.internals.RecordHeaders;

/**
 * Names for a producer's headers that begin as surecount's own do.
 *
 * <p>{@code surecount.x} becomes {@code producer.surecount.x}, and that {@code producer.producer.surecount.x}: no two
 * names become one, and {@code udfs/headers.py} gives each its name back.
 */
final class Aside {

    private static final String PREFIX = "producer.";
    private static final String OURS = "surecount.";

    private Aside() {}

    static String name(String name) {
        return isTaken(name) ? PREFIX + name : name;
    }

    /** The headers under such names; the very same where none needs another. */
    static Headers headers(Headers headers) {
        Header[] all = headers.toArray();
        boolean isMoved = false;
        for (int i = 0; i < all.length; i++) {
            if (isTaken(all[i].key())) {
                all[i] = new RecordHeader(name(all[i].key()), all[i].value());
                isMoved = true;
            }
        }
        return isMoved ? new RecordHeaders(all) : headers;
    }

    private static boolean isTaken(String name) {
        int at = 0;
        while (name.startsWith(PREFIX, at)) {
            at += PREFIX.length();
        }
        return name.startsWith(OURS, at);
    }
}
