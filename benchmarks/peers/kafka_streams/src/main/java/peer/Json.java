package peer;

import com.fasterxml.jackson.core.JsonProcessingException;
import java.io.IOException;
import org.apache.kafka.common.errors.SerializationException;
import org.apache.kafka.common.serialization.Serde;
import org.apache.kafka.common.serialization.Serdes;

/** JSON objects as values of Kafka records. */
final class Json {
    private Json() {}

    static <T> Serde<T> serde(Class<T> type) {
        return Serdes.serdeFrom(
                (topic, value) -> {
                    try {
                        return Main.JSON.writeValueAsBytes(value);
                    } catch (JsonProcessingException error) {
                        throw new SerializationException(error);
                    }
                },
                (topic, bytes) -> {
                    try {
                        return Main.JSON.readValue(bytes, type);
                    } catch (IOException error) {
                        throw new SerializationException(error);
                    }
                });
    }
}
