package surecount;

import org.apache.flink.api.common.typeinfo.TypeInformation;
import org.apache.flink.configuration.Configuration;
import org.apache.flink.streaming.api.functions.python.DataStreamPythonFunctionInfo;
import org.apache.flink.streaming.api.operators.python.process.AbstractExternalDataStreamPythonFunctionOperator;
import org.apache.flink.streaming.api.operators.python.process.ExternalPythonProcessOperator;
import org.apache.flink.streaming.runtime.streamrecord.StreamRecord;

/**
 * PyFlink's operator for a process function, whose bundle ends also with a batch that {@link Batcher} marked as the
 * last one.
 *
 * <p>At the end of a bundle the task waits for Python. In the middle of one, Python works while the task reads on. So
 * it is best to end it late while there is much to read, and at once where there is not, or where Python is slow ({@link
 * Pace}). PyFlink knows a number and a time only.
 */
public final class BundledBatches<T> extends ExternalPythonProcessOperator<byte[], T> {

    private static final long serialVersionUID = 1L;

    private transient Pace pace;

    /** In place of PyFlink's own, which has the same arguments. */
    public BundledBatches(
            Configuration configuration,
            DataStreamPythonFunctionInfo function,
            TypeInformation<byte[]> input,
            TypeInformation<T> output) {
        super(configuration, function, input, output);
    }

    @Override
    public void open() throws Exception {
        pace = new Pace();
        super.open();
    }

    @Override
    public void processElement(StreamRecord<byte[]> batch) throws Exception {
        pace.sent(batch.getValue().length, System.nanoTime());
        super.processElement(batch);
        if (batch.getTimestamp() == Batcher.LAST || pace.isEnough()) {
            invokeFinishBundle();
        }
    }

    @Override
    protected void invokeFinishBundle() throws Exception {
        super.invokeFinishBundle();
        pace.ended(System.nanoTime());
    }

    @Override
    public <O> AbstractExternalDataStreamPythonFunctionOperator<O> copy(
            DataStreamPythonFunctionInfo function, TypeInformation<O> output) {
        return new BundledBatches<>(config, function, getInputTypeInfo(), output);
    }
}
