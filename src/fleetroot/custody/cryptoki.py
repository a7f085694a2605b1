"""PKCS#11 modules: the functions of C that signing needs, and their answers as errors.

A module is loaded once in a process, and its `C_Initialize` is of the whole process; so all who use
one module share a `Module`. Calls run beside each other, each without Python's lock;
`initialize_anew` waits until none runs, and what was opened before it is of an older `epoch`.

Called through ctypes: python-pkcs11 passes NULL to `C_Initialize`, which promises the module that
one thread calls it at a time, and SoftHSM then crashes under two; PyKCS11 is under the GPL.

Source: PKCS #11 2.40 (OASIS), base specification §5 and current mechanisms §2.
"""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from ctypes import POINTER, byref, c_char, c_ulong, c_void_p
from enum import IntEnum
from pathlib import Path
from typing import ClassVar, Final

from fleetroot.errors import InvalidArgument

_OS_LOCKING_OK: Final = 2
_SERIAL_SESSION: Final = 4
_RW_SESSION: Final = 2
_USER: Final = 1
_LABEL_BYTES: Final = 32  # CK_TOKEN_INFO begins with the label, padded with blanks
_TOKEN_INFO_BYTES: Final = 512  # more than CK_TOKEN_INFO has
_UNAVAILABLE: Final = c_ulong(-1).value
_MAX_SIGNATURE: Final = 1024
_MAX_ATTRIBUTE: Final = 4096

# CK_FUNCTION_LIST §3.4: which function stands where, after the version.
_FUNCTIONS: Final = {
    "C_Initialize": 0,
    "C_Finalize": 1,
    "C_GetSlotList": 4,
    "C_GetTokenInfo": 6,
    "C_OpenSession": 12,
    "C_CloseSession": 13,
    "C_GetSessionInfo": 15,
    "C_Login": 18,
    "C_DestroyObject": 22,
    "C_GetAttributeValue": 24,
    "C_FindObjectsInit": 26,
    "C_FindObjects": 27,
    "C_FindObjectsFinal": 28,
    "C_SignInit": 42,
    "C_Sign": 43,
    "C_GenerateKeyPair": 59,
}


class Rv(IntEnum):
    """The return values that mean something here."""

    OK = 0x0
    CANT_LOCK = 0xA
    ATTRIBUTE_SENSITIVE = 0x11
    ATTRIBUTE_TYPE_INVALID = 0x12
    ATTRIBUTE_VALUE_INVALID = 0x13
    DATA_INVALID = 0x20
    DATA_LEN_RANGE = 0x21
    SLOT_ID_INVALID = 0x3
    GENERAL_ERROR = 0x5
    FUNCTION_FAILED = 0x6
    DEVICE_ERROR = 0x30
    DEVICE_MEMORY = 0x31
    DEVICE_REMOVED = 0x32
    FUNCTION_NOT_SUPPORTED = 0x54
    KEY_HANDLE_INVALID = 0x60
    KEY_SIZE_RANGE = 0x62
    KEY_TYPE_INCONSISTENT = 0x63
    KEY_FUNCTION_NOT_PERMITTED = 0x68
    MECHANISM_INVALID = 0x70
    MECHANISM_PARAM_INVALID = 0x71
    OBJECT_HANDLE_INVALID = 0x82
    PIN_INCORRECT = 0xA0
    PIN_INVALID = 0xA1
    PIN_LEN_RANGE = 0xA2
    PIN_EXPIRED = 0xA3
    PIN_LOCKED = 0xA4
    SESSION_CLOSED = 0xB0
    SESSION_COUNT = 0xB1
    SESSION_HANDLE_INVALID = 0xB3
    TEMPLATE_INCOMPLETE = 0xD0
    TEMPLATE_INCONSISTENT = 0xD1
    TOKEN_NOT_PRESENT = 0xE0
    TOKEN_NOT_RECOGNIZED = 0xE1
    TOKEN_WRITE_PROTECTED = 0xE2
    USER_ALREADY_LOGGED_IN = 0x100
    USER_NOT_LOGGED_IN = 0x101
    USER_PIN_NOT_INITIALIZED = 0x102
    CURVE_NOT_SUPPORTED = 0x140
    CRYPTOKI_NOT_INITIALIZED = 0x190
    CRYPTOKI_ALREADY_INITIALIZED = 0x191


class Attribute(IntEnum):
    """The attributes of keys that are set or read here."""

    CLASS = 0x0
    TOKEN = 0x1
    PRIVATE = 0x2
    LABEL = 0x3
    KEY_TYPE = 0x100
    ID = 0x102
    SENSITIVE = 0x103
    DECRYPT = 0x105
    UNWRAP = 0x107
    SIGN = 0x108
    SIGN_RECOVER = 0x109
    VERIFY = 0x10A
    DERIVE = 0x10C
    MODULUS = 0x120
    MODULUS_BITS = 0x121
    PUBLIC_EXPONENT = 0x122
    EXTRACTABLE = 0x162
    LOCAL = 0x163
    NEVER_EXTRACTABLE = 0x164
    ALWAYS_SENSITIVE = 0x165
    EC_PARAMS = 0x180
    EC_POINT = 0x181


class ObjectClass(IntEnum):
    """CK_OBJECT_CLASS."""

    PUBLIC_KEY = 2
    PRIVATE_KEY = 3


class Mechanism(IntEnum):
    """CK_MECHANISM_TYPE."""

    RSA_PKCS_KEY_PAIR_GEN = 0x0
    SHA256_RSA_PKCS = 0x40
    SHA384_RSA_PKCS = 0x41
    SHA512_RSA_PKCS = 0x42
    EC_KEY_PAIR_GEN = 0x1040
    ECDSA = 0x1041


class CryptokiError(Exception):
    """A module's function did not return CKR_OK.

    Attributes:
        rv: what it returned.
    """

    def __init__(self, function: str, rv: int) -> None:
        try:
            name = f"CKR_{Rv(rv).name}"
        except ValueError:
            name = f"0x{rv:x}"
        super().__init__(f"{name} of {function}")
        self.rv = rv


class ModuleUnusable(InvalidArgument):
    """The file is no PKCS#11 module that can be loaded."""


class ModuleBusy(Exception):
    """Calls of the module did not come back in time, so it cannot be initialised anew."""


class _Attribute(ctypes.Structure):
    _fields_: ClassVar = [("type", c_ulong), ("value", c_void_p), ("length", c_ulong)]


class _Mechanism(ctypes.Structure):
    _fields_: ClassVar = [("mechanism", c_ulong), ("parameter", c_void_p), ("length", c_ulong)]


class _InitializeArguments(ctypes.Structure):
    _fields_: ClassVar = [
        ("create_mutex", c_void_p),
        ("destroy_mutex", c_void_p),
        ("lock_mutex", c_void_p),
        ("unlock_mutex", c_void_p),
        ("flags", c_ulong),
        ("reserved", c_void_p),
    ]


Template = Mapping[Attribute, bytes | bool | int]


class Module:
    """A loaded PKCS#11 module. Safe to share between threads; a session is of one of them."""

    def __init__(self, path: Path) -> None:
        try:
            self._library = ctypes.CDLL(str(path))
            get_function_list = self._library.C_GetFunctionList
        except (OSError, AttributeError) as error:
            raise ModuleUnusable(f"{path} is no PKCS#11 module: {error}") from error
        functions = c_void_p()
        get_function_list.restype = c_ulong
        if get_function_list(byref(functions)) != Rv.OK or not functions.value:
            raise ModuleUnusable(f"{path} gives no list of its functions")
        addresses = ctypes.cast(functions.value, POINTER(c_void_p))
        prototype = ctypes.CFUNCTYPE  # without the interpreter's lock while it runs
        self._functions = {
            # CK_VERSION takes two bytes and is padded to a pointer's length.
            name: prototype(c_ulong)(addresses[1 + index] or 0)
            for name, index in _FUNCTIONS.items()
        }
        self.epoch = 0
        self._initialized = False
        self._calls = 0
        self._changed = threading.Condition()

    # --- the whole module

    def initialize(self) -> None:
        """Initialises it, if it is not.

        Raises:
            CryptokiError: it cannot be now.
        """
        with self._changed:
            if not self._initialized:
                self._initialize()

    def _initialize(self) -> None:
        arguments = _InitializeArguments(flags=_OS_LOCKING_OK)
        self._call("C_Initialize", byref(arguments), fine={Rv.CRYPTOKI_ALREADY_INITIALIZED})
        self._initialized = True
        self.epoch += 1

    def initialize_anew(self, epoch: int, timeout: float) -> None:
        """Finalises and initialises it, when no call is under way; what was opened is gone. Does
        nothing if somebody did since `epoch`.

        Raises:
            ModuleBusy: a call did not come back within `timeout` seconds.
            CryptokiError: it cannot be initialised now.
        """
        with self._changed:
            if self.epoch != epoch:
                return
            if not self._changed.wait_for(lambda: not self._calls, timeout):
                raise ModuleBusy("calls of the module do not come back")
            if self.epoch == epoch:
                self._finalize()
                self._initialize()

    def finalize(self, timeout: float) -> None:
        """Ends it, unless calls do not come back."""
        with self._changed:
            if self._changed.wait_for(lambda: not self._calls, timeout):
                self._finalize()

    def _finalize(self) -> None:
        if self._initialized:
            self._initialized = False
            self._call("C_Finalize", None, fine={Rv.CRYPTOKI_NOT_INITIALIZED})

    @contextmanager
    def used(self) -> Iterator[None]:
        """While calls are made: so long the module is not finalised.

        Raises:
            CryptokiError: it is not initialised, and cannot be.
        """
        with self._changed:
            if not self._initialized:
                self._initialize()
            self._calls += 1
        try:
            yield
        finally:
            with self._changed:
                self._calls -= 1
                self._changed.notify_all()

    # --- sessions

    def slot_of(self, label: str) -> int:
        """The slot of the token of that label.

        Raises:
            CryptokiError: TOKEN_NOT_PRESENT, if there is not exactly one; and others.
        """
        count = c_ulong()
        self._call("C_GetSlotList", ctypes.c_ubyte(1), None, byref(count))
        slots = (c_ulong * max(count.value, 1))()
        self._call("C_GetSlotList", ctypes.c_ubyte(1), slots, byref(count))
        found = []
        for slot in slots[: count.value]:
            info = ctypes.create_string_buffer(_TOKEN_INFO_BYTES)
            gone = {Rv.TOKEN_NOT_PRESENT, Rv.TOKEN_NOT_RECOGNIZED, Rv.DEVICE_REMOVED}
            rv = self._call("C_GetTokenInfo", c_ulong(slot), info, fine=gone)
            if rv == Rv.OK and info.raw[:_LABEL_BYTES].rstrip(b" \0") == label.encode():
                found.append(slot)
        if len(found) != 1:
            raise CryptokiError("C_GetSlotList", Rv.TOKEN_NOT_PRESENT)
        return found[0]

    def open_session(self, slot: int, *, writing: bool) -> int:
        """A session's handle."""
        session = c_ulong()
        flags = _SERIAL_SESSION | (_RW_SESSION if writing else 0)
        self._call("C_OpenSession", c_ulong(slot), c_ulong(flags), None, None, byref(session))
        return session.value

    def close_session(self, session: int) -> None:
        """Closes it."""
        self._call("C_CloseSession", c_ulong(session))

    def check_session(self, session: int) -> None:
        """Raises:
        CryptokiError: the session is over.
        """
        info = ctypes.create_string_buffer(_TOKEN_INFO_BYTES)
        self._call("C_GetSessionInfo", c_ulong(session), info)

    def login(self, session: int, pin: str) -> None:
        """Logs the process in to the session's token, if it is not yet."""
        secret = pin.encode()
        self._call(
            "C_Login",
            c_ulong(session),
            c_ulong(_USER),
            ctypes.c_char_p(secret),
            c_ulong(len(secret)),
            fine={Rv.USER_ALREADY_LOGGED_IN},
        )

    # --- keys

    def find(self, session: int, template: Template, most: int) -> list[int]:
        """The handles of up to `most` objects of these attributes."""
        attributes = _pack(template)
        self._call("C_FindObjectsInit", c_ulong(session), attributes, c_ulong(len(attributes)))
        try:
            found, count = (c_ulong * most)(), c_ulong()
            self._call("C_FindObjects", c_ulong(session), found, c_ulong(most), byref(count))
        finally:
            self._call("C_FindObjectsFinal", c_ulong(session), fine=set(Rv))
        return list(found[: count.value])

    def generate_key_pair(
        self, session: int, mechanism: Mechanism, public: Template, private: Template
    ) -> tuple[int, int]:
        """Makes a key pair; gives the handles of the public and the private key."""
        public_attributes, private_attributes = _pack(public), _pack(private)
        made_public, made_private = c_ulong(), c_ulong()
        self._call(
            "C_GenerateKeyPair",
            c_ulong(session),
            byref(_Mechanism(mechanism, None, 0)),
            public_attributes,
            c_ulong(len(public_attributes)),
            private_attributes,
            c_ulong(len(private_attributes)),
            byref(made_public),
            byref(made_private),
        )
        return made_public.value, made_private.value

    def read(self, session: int, key: int, attribute: Attribute) -> bytes:
        """The value of an object's attribute."""
        value = ctypes.create_string_buffer(_MAX_ATTRIBUTE)
        asked = _Attribute(attribute, ctypes.addressof(value), _MAX_ATTRIBUTE)
        self._call("C_GetAttributeValue", c_ulong(session), c_ulong(key), byref(asked), c_ulong(1))
        if asked.length == _UNAVAILABLE:
            raise CryptokiError("C_GetAttributeValue", Rv.ATTRIBUTE_TYPE_INVALID)
        return value.raw[: asked.length]

    def destroy(self, session: int, key: int) -> None:
        """Destroys an object."""
        self._call("C_DestroyObject", c_ulong(session), c_ulong(key))

    def sign(self, session: int, key: int, mechanism: Mechanism, data: bytes) -> bytes:
        """The signature, as the mechanism has it."""
        self._call(
            "C_SignInit", c_ulong(session), byref(_Mechanism(mechanism, None, 0)), c_ulong(key)
        )
        signature, length = (c_char * _MAX_SIGNATURE)(), c_ulong(_MAX_SIGNATURE)
        self._call(
            "C_Sign",
            c_ulong(session),
            ctypes.c_char_p(data),
            c_ulong(len(data)),
            signature,
            byref(length),
        )
        return signature.raw[: length.value]

    def _call(
        self, function: str, *arguments: object, fine: frozenset[Rv] | set[Rv] = frozenset()
    ) -> int:
        rv: int = self._functions[function](*arguments)
        if rv != Rv.OK and rv not in fine:
            raise CryptokiError(function, rv)
        return rv


def _pack(template: Template) -> ctypes.Array[_Attribute]:
    """CK_ATTRIBUTE of every entry; the array keeps the values alive."""
    array = (_Attribute * len(template))()
    values = [ctypes.create_string_buffer(_raw(value)) for value in template.values()]
    for entry, kind, value in zip(array, template, values, strict=True):
        entry.type, entry.length = kind, len(value) - 1  # but for the NUL that ctypes adds
        entry.value = ctypes.addressof(value)
    array._values = values  # type: ignore[attr-defined]  # noqa: SLF001
    return array


def _raw(value: bytes | bool | int) -> bytes:
    match value:
        case bool():
            return bytes([value])
        case int():
            return bytes(c_ulong(value))
        case bytes():
            return value
