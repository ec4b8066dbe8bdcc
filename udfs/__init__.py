"""The pure Python that runs beside Flink: decoding, checks, exact sums, partials, the window log.

A user's own ``udfs`` folder, beside the pipeline file, joins this package.
"""

from pkgutil import extend_path

__path__ = extend_path(__path__, __name__)
