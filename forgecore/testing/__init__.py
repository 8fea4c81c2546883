"""What the tests of a plugin use: projects to build, golden files, and what every plugin keeps."""

from forgecore.testing.conformance import faults_of
from forgecore.testing.golden import assert_golden
from forgecore.testing.project import Built, TemporaryProject

__all__ = ["Built", "TemporaryProject", "assert_golden", "faults_of"]
