# One image for every role: broker, zookeeper, jobmanager, taskmanager, surecount. docs/deploy.md says how to use it.
# What is inside has its versions in requirements.lock and java/pom.xml; here are those of Python and Java only.
# These tags move. `make images` writes what they are now, by digest, into deploy/images.env, for builds to use.
ARG MAVEN_IMAGE=maven:3-eclipse-temurin-17
ARG JAVA_IMAGE=eclipse-temurin:17-jre
ARG PYTHON_BUILD_IMAGE=python:3.11
ARG PYTHON_IMAGE=python:3.11-slim

FROM ${JAVA_IMAGE} AS java

FROM ${MAVEN_IMAGE} AS jars
WORKDIR /opt/surecount
COPY java java
RUN mvn --batch-mode --quiet --file java/pom.xml package

# The whole Python image, for its compiler: one of the locked packages comes as source.
FROM ${PYTHON_BUILD_IMAGE} AS packages
WORKDIR /opt/surecount
COPY requirements.lock ./
# At the path where it will be used: a virtual environment cannot be moved.
RUN python -m venv .venv \
    && .venv/bin/pip install --no-cache-dir --disable-pip-version-check --require-hashes -r requirements.lock

FROM ${PYTHON_IMAGE}
# A number, so that Kubernetes can tell that it is not root. The folders are made here for their owner: a volume that
# is mounted there for the first time takes it on.
RUN groupadd --gid 9999 surecount \
    && useradd --uid 9999 --gid 9999 --create-home surecount \
    && mkdir -p /var/lib/surecount /state /pipelines \
    && chown surecount:surecount /var/lib/surecount /state
COPY --from=java /opt/java/openjdk /opt/java/openjdk
WORKDIR /opt/surecount
COPY --from=jars /opt/surecount/java/target java/target
COPY --from=packages /opt/surecount/.venv .venv
COPY flink-conf flink-conf
COPY udfs udfs
COPY jobs jobs
COPY examples examples
COPY surecount surecount
COPY deploy/entrypoint.sh deploy/
RUN .venv/bin/python -m compileall -q surecount udfs jobs
ENV JAVA_HOME=/opt/java/openjdk \
    SURECOUNT_ROLE_DIR=/var/lib/surecount
USER 9999:9999
WORKDIR /pipelines
ENTRYPOINT ["/opt/surecount/deploy/entrypoint.sh"]
CMD ["surecount", "--help"]
