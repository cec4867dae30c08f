# The gateway in a container: docs/deploying.md. docker build -t valetkey .
FROM python:3.13-slim AS build
WORKDIR /src
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY addons addons
COPY docs/rules.schema.json docs/
RUN python -m venv /opt/valetkey && /opt/valetkey/bin/pip install --no-cache-dir -c constraints.txt .

FROM python:3.13-slim
# /data: rules.yaml, ledger, and the CA with its key. /trust: what agents may have of it, see deploy/compose.yaml.
RUN groupadd --gid 10001 valetkey \
    && useradd --uid 10001 --gid 10001 --home-dir /data --no-create-home --shell /usr/sbin/nologin valetkey \
    && install --directory --owner valetkey --group valetkey --mode 700 /data \
    && install --directory --owner valetkey --group valetkey --mode 755 /trust
COPY --from=build /opt/valetkey /opt/valetkey
ENV PATH=/opt/valetkey/bin:$PATH HOME=/data PYTHONUNBUFFERED=1 HEALTH=http://127.0.0.1:8045/health
WORKDIR /data
USER 10001:10001
VOLUME /data
EXPOSE 8080 8045
# The address is where `gateway.api` of the rules listens; HEALTH names another one.
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 \
    CMD ["python", "-c", "import os, urllib.request as r; r.build_opener(r.ProxyHandler({})).open(os.environ['HEALTH'], timeout=4)"]
ENTRYPOINT ["valetkey"]
CMD ["run"]
