"""What is wrong with a spec: pairs of a field's path and a sentence that says what would be right. Pure.

==============  ====================================================================
``shape``       what holds for every message: enums, durations, text, sizes
``names``       names and data of objects
``networks``    networks' specs
``services``    services' specs: mode, networks, ports, placement, updates
``containers``  the container's part of a service's spec
==============  ====================================================================
"""

from pycompose.manager.control.validate.names import CONFIG_LIMIT, SECRET_LIMIT, data, name
from pycompose.manager.control.validate.networks import network
from pycompose.manager.control.validate.services import Known, service
from pycompose.manager.control.validate.shape import Violation, shape

__all__ = ["CONFIG_LIMIT", "SECRET_LIMIT", "Known", "Violation", "data", "name", "network", "service", "shape"]
