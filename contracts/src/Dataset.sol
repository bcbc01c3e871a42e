// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Asset} from "./Asset.sol";

/**
 * @title Dataset: data as it was brought
 */
contract Dataset is Asset {
    uint8 public constant kind = 1;
    uint16 public constant ownLength = 0;
    uint8 public constant minParents = 0;
    bool public constant takesResult = false;

    constructor(address registry_) Asset(registry_) {}
}
