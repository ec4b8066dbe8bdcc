package surecount;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static surecount.Testing.side;
import static surecount.Testing.utf8;

import java.util.Arrays;
import java.util.List;
import org.apache.flink.streaming.api.operators.ProcessOperator;
import org.apache.flink.types.Row;
import org.junit.jupiter.api.Test;

class ResultsTest {

    private static Row block(int kind, String lines) {
        return Row.of(kind, utf8("{k:"), utf8(",s}"), utf8(",c:"), utf8("}"), utf8(lines));
    }

    @Test
    void aRecordIsPutTogetherOfEachLine() throws Exception {
        Testing.with(new ProcessOperator<>(new Results()), harness -> {
            harness.processElement(block(Results.RESULT, "\"a\"\t1\n\t\n\"ü\"\t23"), 0);
            harness.processElement(block(Results.CORRECTION, "\"b\"\t4"), 0);
            harness.processElement(block(Results.RESULT, ""), 0);
            List<List<Object>> found =
                    harness.extractOutputValues().stream().map(Testing::shown).toList();
            assertEquals(
                    List.of(
                            Arrays.asList(null, "{k:\"a\",s}", "{k:\"a\",c:1}"),
                            Arrays.asList(null, "{k:,s}", "{k:,c:}"),
                            Arrays.asList(null, "{k:\"ü\",s}", "{k:\"ü\",c:23}")),
                    found);
            assertEquals(
                    List.of(Arrays.asList(null, "{k:\"b\",s}", "{k:\"b\",c:4}")),
                    side(harness, Outgoing.CORRECTIONS));
        });
    }

    @Test
    void otherKindsAreRefused() throws Exception {
        Testing.with(new ProcessOperator<>(new Results()), harness -> {
            assertThrows(IllegalStateException.class, () -> harness.processElement(block(2, "a\t1"), 0));
        });
    }
}
