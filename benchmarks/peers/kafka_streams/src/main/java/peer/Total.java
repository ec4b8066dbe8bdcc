package peer;

import java.nio.ByteBuffer;
import org.apache.kafka.common.serialization.Serde;
import org.apache.kafka.common.serialization.Serdes;

/** Count and sum of one key in one window; 16 bytes in stores and changelogs. */
record Total(long count, long sum) {
    static final Serde<Total> SERDE = Serdes.serdeFrom(
            (topic, total) -> total == null
                    ? null
                    : ByteBuffer.allocate(2 * Long.BYTES).putLong(total.count).putLong(total.sum).array(),
            (topic, bytes) -> {
                if (bytes == null) {
                    return null;
                }
                var buffer = ByteBuffer.wrap(bytes);
                return new Total(buffer.getLong(), buffer.getLong());
            });

    Total() {
        this(0, 0);
    }

    Total plus(long amount) {
        return new Total(count + 1, sum + amount);
    }
}
